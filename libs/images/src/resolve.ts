import { StrataError } from '@strata/base'
import { isDigest, parseTagged, type Digest, type Reference } from '@strata/oci'
import type { NameEntry } from './name-entry.js'
import type { Names } from './names.js'

/**
 * The possible meanings of a text that names an image, in the order in which they are tried, as
 * docker does: a full digest (an image's id or a manifest's digest), a name, the beginning of an
 * id.
 */
export interface Meaning {
  readonly digest: Digest | undefined
  readonly name: Reference | undefined
  /** At least one hex digit, possibly with the algorithm's name before them. */
  readonly idPrefix: string | undefined
}

/**
 * What a text may mean. Reads nothing.
 * @throws StrataError `name_invalid` if it can be neither a name nor the beginning of an id
 */
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
 * A name of the image with this id, manifest digest, or beginning of an id; `undefined` if there is
 * none. Images with one id differ only in packing. Of several, it is one that has a tag, else the
 * first by digest.
 * @throws StrataError `image_ambiguous` if several ids begin like this
 */
export async function findById(
  names: Names,
  { digest, idPrefix }: Pick<Meaning, 'digest' | 'idPrefix'>,
): Promise<NameEntry | undefined> {
  if (digest) {
    for await (const entry of names.ofDigest(digest)) return entry
    return firstOfId(names, digest)
  }
  if (idPrefix === undefined) return undefined
  const [hex = '', algorithm] = idPrefix.split(':').reverse()
  let found: NameEntry | undefined
  for await (const id of names.idsWith(hex, algorithm)) {
    const entry = await firstOfId(names, id)
    if (entry && found)
      throw new StrataError(
        'image_ambiguous',
        `several images have an id that begins with ${idPrefix}: give more of its digits`,
      )
    found ??= entry
  }
  return found
}

async function firstOfId(names: Names, id: Digest): Promise<NameEntry | undefined> {
  let first: NameEntry | undefined
  for await (const entry of names.ofId(id)) {
    if (entry.name.tag) return entry
    first ??= entry
  }
  return first
}

/** The error that there is no image of this text. */
export function notFound(text: string): StrataError {
  return new StrataError('image_not_found', `there is no image ${JSON.stringify(text.slice(0, 300))}`)
}
