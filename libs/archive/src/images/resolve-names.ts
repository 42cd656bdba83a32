import { StrataError } from '@strata/base'
import { formatReference, parseReference, parseTagged, type Reference, type Tag } from '@strata/oci'
import type { ArchiveImage } from './image-archive.js'

/**
 * The names an archive gives an image, and the tag it gives without a name
 * (`org.opencontainers.image.ref.name` of `3`).
 */
export interface ArchiveNames {
  readonly names: readonly Reference[]
  readonly bareTag: Tag | undefined
}

/** An image with the bare tag that waits for a name. */
export interface ResolvedImage {
  readonly image: ArchiveImage
  readonly bareTag: Tag | undefined
}

/**
 * What an archive's name becomes: its repository and tag. A digest beside them is left out. It may
 * be that of an index of which only one platform is taken, and a name with the digest of something
 * that is not here is found by nobody. A name without a tag is none: an image has its digest
 * anyway.
 */
function tagged(name: string): Reference[] {
  const { repository, tag } = parseTagged(name)
  return tag === undefined ? [] : [{ repository, tag, digest: undefined }]
}

/** `manifest.json`'s RepoTags. Docker wrote `<none>:<none>` for an untagged image. */
export function namesOfRepoTags(tags: readonly string[]): Reference[] {
  return tags.filter((tag) => tag !== '<none>:<none>').flatMap(tagged)
}

/**
 * A descriptor of `index.json`: containerd's full name, else the spec's `ref.name` where that is
 * one; its own grammar allows anything.
 */
export function namesOfAnnotations(annotations: Readonly<Record<string, string>>): ArchiveNames {
  const refName = annotations['org.opencontainers.image.ref.name'] ?? ''
  const full = annotations['io.containerd.image.name']
  if (full) return { names: tagged(full), bareTag: undefined }
  // A tag has neither `/` nor `:`; a name in full has at least one of them.
  if (/^\w[\w.-]{0,127}$/.test(refName)) return { names: [], bareTag: refName as Tag }
  try {
    return { names: tagged(refName), bareTag: undefined }
  } catch {
    return { names: [], bareTag: undefined }
  }
}

export function mergeNames(a: ArchiveNames, b: ArchiveNames): ArchiveNames {
  return { names: distinct([...a.names, ...b.names]), bareTag: a.bareTag ?? b.bareTag }
}

export function distinct(names: readonly Reference[]): Reference[] {
  return [...new Map(names.map((name) => [formatReference(name), name])).values()]
}

/** The one image under the caller's name. Without a tag it takes the archive's bare one. */
export function nameAs(images: readonly ResolvedImage[], name: string): ArchiveImage[] {
  const [only, ...others] = images
  if (!only || others.length > 0)
    throw new StrataError('bad_request', `a name can be given to one image; the archive has ${images.length}`)
  const given = parseReference(name)
  if (given.digest)
    throw new StrataError('name_invalid', `${JSON.stringify(name)} has a digest; an image is given a name and a tag`)
  const tag = given.tag ?? only.bareTag ?? parseTagged(name).tag
  return [{ ...only.image, names: [{ ...given, tag }] }]
}
