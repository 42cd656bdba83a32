import { StrataError } from '@strata/base'
import {
  DOCUMENT_LIMITS,
  isIndexType,
  isManifestType,
  MEDIA,
  parseReference,
  readJson,
  type JsonLimits,
  type Tag,
} from '@strata/oci'
import { z } from 'zod'

/** What tells a manifest from an index, and what each says that it is. */
const shapeSchema = z.object({
  mediaType: z.string().optional(),
  manifests: z.array(z.unknown()).optional(),
  config: z.looseObject({}).optional(),
})

/**
 * The media type of a manifest or an index. The document's own word counts; a registry that says
 * another one of the known types is not believed in anything.
 *
 * @throws StrataError `registry_invalid`, `limit_exceeded`, `unsupported`
 */
export function mediaTypeOf(bytes: Buffer, contentType: string | undefined, what: string): string {
  const told = contentType?.split(';')[0]?.trim().toLowerCase()
  if (told?.startsWith('application/vnd.docker.distribution.manifest.v1'))
    throw new StrataError('unsupported', `${what} is of docker's schema 1, which Strata does not read: push it again`)
  const { data } = shapeSchema.safeParse(readAnswer(bytes, what, DOCUMENT_LIMITS))
  const isTold = isKnown(told)
  const own = data?.mediaType ?? (isTold ? told : shapeOf(data))
  if (own === undefined || !isKnown(own))
    throw new StrataError(
      'registry_invalid',
      `${what} is neither a manifest nor an index of an image: ${JSON.stringify((own ?? told ?? 'no media type').slice(0, 200))}`,
    )
  if (isTold && told !== own)
    throw new StrataError('registry_invalid', `${what} says that it is ${own}, and the registry says ${told}`)
  return own
}

function isKnown(type: string | undefined): boolean {
  return isManifestType(type) || isIndexType(type)
}

function shapeOf(data: z.infer<typeof shapeSchema> | undefined): string | undefined {
  if (data?.manifests) return MEDIA.index
  return data?.config ? MEDIA.manifest : undefined
}

/** JSON of a registry as a value. */
function readAnswer(bytes: Buffer, what: string, limits: JsonLimits): unknown {
  try {
    return readJson(bytes, what, limits)
  } catch (error) {
    if (error instanceof StrataError) throw error
    throw new StrataError('registry_invalid', `${what} is not JSON`)
  }
}

const tagsSchema = z.object({ tags: z.array(z.string()).nullish() })

/** distribution-spec, "Listing Tags". */
export function readTags(bytes: Buffer, what: string): Tag[] {
  const { success, data } = tagsSchema.safeParse(readAnswer(bytes, what, DOCUMENT_LIMITS))
  if (!success) throw new StrataError('registry_invalid', `${what} is no list of tags`)
  return (data.tags ?? []).map((text) => asTag(text, what))
}

function asTag(text: string, what: string): Tag {
  try {
    const { tag, digest, repository } = parseReference(`any:${text}`)
    if (tag === text && digest === undefined && repository === 'docker.io/library/any') return tag
  } catch {
    // Told below.
  }
  throw new StrataError('registry_invalid', `${what} names ${JSON.stringify(text.slice(0, 150))}, which is no tag`)
}

/** The target of `rel="next"` (RFC 8288), as it is written there. */
export function nextPage(link: string | undefined): string | undefined {
  for (const [, target, parameters = ''] of (link ?? '').matchAll(/<([^<>]*)>((?:\s*;[^,<]*)*)/g))
    if (/;\s*rel\s*=\s*"?next"?\s*(?:;|$)/i.test(parameters)) return target
  return undefined
}
