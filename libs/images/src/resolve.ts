import { StrataError } from '@strata/base'
import { algorithmOf, isDigest, parseTagged, type Digest, type Reference } from '@strata/oci'
import type { NameEntry, Names } from './names.js'

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
 * A name of the image that is meant by an id, a manifest's digest, or an id's beginning. Images
 * with one id differ in packing only: of several the one that has a tag, then the first by digest.
 * @throws StrataError `image_ambiguous` if ids differ; `undefined` if there is none
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
  for await (const id of names.idsWith(hex)) {
    if (algorithm !== undefined && algorithmOf(id) !== algorithm) continue
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

export function notFound(text: string): StrataError {
  return new StrataError('image_not_found', `there is no image ${JSON.stringify(text.slice(0, 300))}`)
}
