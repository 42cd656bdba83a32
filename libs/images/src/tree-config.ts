import { digestOf, type DiffId, type Digest } from '@strata/oci'
import { z } from 'zod'

/** What an import says of its image before the layer is known. */
export const treeImageSchema = z.object({
  platform: z.object({ os: z.string(), architecture: z.string(), variant: z.string().optional() }),
  /** Seconds since the epoch. */
  timestamp: z.number().int(),
  message: z.string(),
  /** A `RunConfig`. */
  run: z.record(z.string(), z.unknown()),
})
export type TreeImage = z.infer<typeof treeImageSchema>

/**
 * The image's config (image-spec, config.md), in a fixed form: the same tree with the same
 * `TreeImage` has the same id everywhere.
 */
export function treeConfig(
  { platform, timestamp, message, run }: TreeImage,
  layer: DiffId,
): { readonly digest: Digest; readonly bytes: Buffer } {
  const created = new Date(timestamp * 1000).toISOString().replace('.000Z', 'Z')
  const { os, architecture, variant } = platform
  const config = {
    architecture,
    comment: message,
    config: run,
    created,
    history: [{ created, comment: message }],
    os,
    rootfs: { type: 'layers', diff_ids: [layer] },
    variant,
  }
  const bytes = Buffer.from(JSON.stringify(config))
  return { digest: digestOf(bytes), bytes }
}
