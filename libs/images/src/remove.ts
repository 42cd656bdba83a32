import { failpoint, StrataError } from '@strata/base'
import { type Digest } from '@strata/oci'
import { CAS_ATTEMPTS, changedTooOften, type ImageKey } from '@strata/store'
import type { Image, NamedImage } from './image.js'
import { groupByImage, namesOf, textOfName, type NameEntry, type Names } from './names.js'
import { findById, meaningOf, notFound, type Meaning } from './resolve.js'

export interface Removal {
  /** A name, a digest, or the beginning of an id. */
  readonly ref: string
  /** By id: also when the image has several tags. */
  readonly force: boolean
  /** Whether a container uses the image. Asked only when the image itself would go. */
  readonly inUse: (image: Image) => Promise<boolean>
}
/** Names in short form that are gone, and ids of images that are. */
export interface Removed {
  readonly untagged: string[]
  readonly deleted: Digest[]
}

/**
 * docker's `rmi`. By name: takes that tag away, and with the last tag the image. By id or digest:
 * takes the image and its tag away; several tags only with `force`. The image's blobs are the
 * collector's to remove.
 * A name whose record is damaged is taken away by itself: which image it stood for is not known.
 * @throws StrataError `image_not_found`, `image_ambiguous`, `image_has_tags`, and `image_in_use`,
 * which force does not overrule
 */
export async function removeImage(names: Names, removal: Removal): Promise<Removed> {
  const meaning = meaningOf(removal.ref)
  for (let attempt = 0; attempt < CAS_ATTEMPTS; attempt++) {
    const { entries, damaged } = await names.look()
    const unreadable = damaged.find(({ name }) => isMeant(name, meaning))
    if (unreadable) {
      if (!(await names.records.retire(unreadable.key, unreadable.found))) continue
      failpoint('remove.name-retired')
      return { untagged: [textOfName(unreadable.name)], deleted: [] }
    }
    const tag =
      meaning.name && !meaning.name.digest
        ? entries.find(({ name }) => name.tag === meaning.name?.tag && name.repository === meaning.name?.repository)
        : undefined
    if (!tag) return removeWhole(names, removal, imageEntries(entries, removal.ref))
    const last = entries.every(
      ({ name, image, key }) => key === tag.key || !name.tag || image.digest !== tag.image.digest,
    )
    if (last) await refuseInUse(removal, [tag.image])
    if (!(await names.records.retire(tag.key, tag.found))) continue
    failpoint('remove.name-retired')
    // Looked at again: who takes the other tag away at the same time sees this one gone, or we see
    // that one gone.
    const rest = (await names.all()).filter(({ image }) => image.digest === tag.image.digest)
    const untagged = namesOf([tag])
    if (rest.some(({ name }) => name.tag)) return { untagged, deleted: [] }
    return { untagged, deleted: (await retireAll(names, rest)) ? await gone(names, [tag.image.id]) : [] }
  }
  throw changedTooOften(`of ${removal.ref}`)
}

function isMeant(key: ImageKey, { name, digest }: Meaning): boolean {
  if (digest !== undefined) return key.digest === digest
  if (name?.digest !== undefined) return key.digest === name.digest && key.repository === name.repository
  return name?.tag !== undefined && key.tag === name.tag && key.repository === name.repository
}

async function removeWhole(names: Names, removal: Removal, entries: NameEntry[]): Promise<Removed> {
  const tags = namesOf(entries)
  if (tags.length > 1 && !removal.force)
    throw new StrataError(
      'image_has_tags',
      `${removal.ref} has ${tags.length} tags (${tags.slice(0, 5).join(', ')}${tags.length > 5 ? ', …' : ''}): remove them one by one, or force it`,
    )
  await refuseInUse(
    removal,
    entries.map(({ image }) => image),
  )
  const complete = await retireAll(names, entries)
  return {
    untagged: tags,
    deleted: complete
      ? await gone(
          names,
          entries.map(({ image }) => image.id),
        )
      : [],
  }
}

/**
 * All entries of the image that is meant by its id (whatever their manifests) or by its manifest's
 * digest.
 */
function imageEntries(entries: readonly NameEntry[], ref: string): NameEntry[] {
  const { name, digest, idPrefix } = meaningOf(ref)
  const images = groupByImage(entries)
  const named =
    name?.digest &&
    entries.find(({ name: entry, image }) => entry.repository === name.repository && image.digest === name.digest)
  const found: NamedImage | Image | undefined = named ? named.image : findById(images, { digest, idPrefix })
  if (!found) throw notFound(ref)
  const byDigest = named !== undefined || found.digest === digest
  return entries.filter(({ image }) => (byDigest ? image.digest === found.digest : image.id === found.id))
}

async function refuseInUse({ ref, inUse }: Removal, images: readonly Image[]): Promise<void> {
  for (const image of new Map(images.map((image) => [image.digest, image])).values())
    if (await inUse(image)) throw new StrataError('image_in_use', `${ref} is used by a container: remove that first`)
}

/**
 * Tags first: an image half removed is still found by its digest. `false` if a name was changed by
 * another meanwhile and stands.
 */
async function retireAll(names: Names, entries: readonly NameEntry[]): Promise<boolean> {
  let complete = true
  for (const { key, found } of entries.toSorted((a, b) => Number(!a.name.tag) - Number(!b.name.tag))) {
    complete = (await names.records.retire(key, found)) && complete
    failpoint('remove.name-retired')
  }
  return complete
}

/** Those of the ids that no entry has any more. */
async function gone(names: Names, ids: readonly Digest[]): Promise<Digest[]> {
  const left = new Set((await names.all()).map(({ image }) => image.id))
  return [...new Set(ids)].filter((id) => !left.has(id))
}
