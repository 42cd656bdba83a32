import { z } from 'zod'
import { digest, platform, text } from './common.js'

/** A parameter that may come once, several times, or with commas. */
const several = <T extends string>(item: z.ZodType<T, T>, atLeast = 0) =>
  z
    .union([z.string(), z.array(z.string())])
    .optional()
    .transform((value) => [value ?? []].flat().flatMap((part) => part.split(',')))
    .pipe(
      z
        .array(item as unknown as z.ZodType<T, string>)
        .min(atLeast, 'is missing')
        .max(1_000),
    )

/** `GET /v1/archive`. */
export const archiveQuery = z.object({
  image: several(text(512).min(1), 1).meta({ description: 'the images of the archive, in this order' }),
  format: z.enum(['docker', 'oci']).default('docker').meta({
    description:
      'docker: an OCI layout with manifest.json, which docker, podman, skopeo and containerd load; oci: the layout alone',
  }),
  platform: platform.optional().meta({ description: 'of images kept with all their platforms: this one alone' }),
  since: several(text(512)).meta({ description: 'images that the receiver has: their layers are left out' }),
  have: several(digest).meta({ description: 'digests of layers that the receiver has: they are left out' }),
})
