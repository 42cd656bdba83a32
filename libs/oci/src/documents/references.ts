import { StrataError } from '@strata/base'
import { z } from 'zod'
import { isDigest, NOT_A_DIGEST, type Digest } from '../names/digest.js'
import { ONE_ISSUE } from './image.js'

/** What a document names: the digest, and the size that the document states. */
interface Referred {
  readonly digest: Digest
  readonly size: number
}

/** With what `isElsewhere` asks. */
interface ReferredLayer extends Referred {
  readonly mediaType?: string | undefined
  readonly urls?: unknown[] | null | undefined
}

/** What a stored manifest or index names. `subject` is not among it: it keeps nothing. */
export interface References {
  readonly config: Referred | undefined
  readonly layers: readonly ReferredLayer[]
  /** Of an index. */
  readonly children: readonly Referred[] | undefined
}

/**
 * So many bytes of a stored document are read for its references. No release accepts more than
 * `MAX_JSON_BYTES`; this is wider, so that a stored document stays readable if that limit changes.
 */
export const MAX_STORED_JSON_BYTES = 16 * 1024 * 1024

const referred = z.object({
  digest: z.custom<Digest>(isDigest, NOT_A_DIGEST),
  // It only tells how much space something takes.
  size: z.number().int().nonnegative().catch(0),
})
const layer = referred.extend({
  mediaType: z.string().optional().catch(undefined),
  urls: z.array(z.unknown()).nullish().catch(undefined),
})
const referencesSchema = z
  .object({ config: referred.nullish(), layers: z.array(layer).nullish(), manifests: z.array(referred).nullish() })
  .refine(({ config, manifests }) => Boolean(config ?? manifests), 'it has no config and no manifests')

/**
 * Reads what a stored manifest or index names, and nothing else.
 *
 * This is for readers that must not lose a reference: the collector, `df`, the check after a loss
 * of power. So it has none of the limits that hold where documents come in (`parseJson`): a
 * document that an older release accepted, or that came in under higher limits, still protects what
 * it names.
 *
 * @param what names the document in messages: `manifest sha256:…`
 * @throws StrataError `corrupt` if it is no manifest and no index
 */
export function readReferences(bytes: Uint8Array, what: string): References {
  let value: unknown
  try {
    value = JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8'))
  } catch (error) {
    throw new StrataError('corrupt', `${what} is not JSON`, { cause: error })
  }
  const { success, data, error } = referencesSchema.safeParse(value, ONE_ISSUE)
  if (!success) {
    const [issue] = error.issues
    throw new StrataError(
      'corrupt',
      `${what} is not valid: ${issue?.path.join('.') || 'it'}: ${issue?.message ?? 'unknown'}`,
    )
  }
  return { config: data.config ?? undefined, layers: data.layers ?? [], children: data.manifests ?? undefined }
}
