import { StrataError } from '@strata/base'
import { hexOf, isDigest, parseTagged, type Digest, type Reference } from '@strata/oci'
import type { NamedImage } from './image.js'

/**
 * What a caller may mean by `text`, in the order in which it is tried, as docker does: a digest in
 * full (an image's id or a manifest's), a name, an id's beginning.
 */
export interface Meaning {
  readonly digest: Digest | undefined
  readonly name: Reference | undefined
  /** Hex digits, at least one, possibly behind their algorithm's name. */
  readonly idPrefix: string | undefined
}

export function meaningOf(text: string): Meaning {
  const [, algorithm, hex] = /^(?:(sha256|sha512):)?([0-9a-f]{1,128})$/.exec(text) ?? []
  const digest = algorithm === undefined ? `${hex?.length === 128 ? 'sha512' : 'sha256'}:${hex ?? ''}` : text
  if (isDigest(digest)) return { digest, name: undefined, idPrefix: undefined }
  let name: Reference | undefined
  try {
    name = parseTagged(text)
  } catch (error) {
    if (hex === undefined) throw error
  }
  return { digest: undefined, name, idPrefix: hex === undefined ? undefined : text }
}

/**
 * The image of an id, a manifest's digest, or an id's beginning; of several with one id the first
 * of the list (they differ in packing only).
 * @throws StrataError `image_ambiguous` if ids differ; `undefined` if there is none
 */
export function findById(
  images: readonly NamedImage[],
  { digest, idPrefix }: Pick<Meaning, 'digest' | 'idPrefix'>,
): NamedImage | undefined {
  if (digest) return images.find((image) => image.digest === digest) ?? images.find((image) => image.id === digest)
  if (idPrefix === undefined) return undefined
  const matching = images.filter((image) => image.id.startsWith(idPrefix) || hexOf(image.id).startsWith(idPrefix))
  const ids = new Set(matching.map(({ id }) => id))
  if (ids.size > 1)
    throw new StrataError('image_ambiguous', `${ids.size} images have an id that begins with ${idPrefix}`)
  return matching[0]
}

export function notFound(text: string): StrataError {
  return new StrataError('image_not_found', `there is no image ${JSON.stringify(text.slice(0, 300))}`)
}
