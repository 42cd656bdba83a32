import { StrataError } from '@strata/base'
import { type Digest } from '@strata/oci'
import { CAS_ATTEMPTS, changedTooOften, keys } from '@strata/store'
import { isPlain, type Image } from './image.js'
import type { DamagedName, NameEntry, PlainEntry } from './name-entry.js'
import { namesOf, textOfName } from './named-images.js'
import type { Names } from './names.js'
import type { Manifests } from './repositories/manifests.js'
import { isOfOneManifest } from './repositories/stops.js'
import { findById, meaningOf, notFound, type Meaning } from './resolve.js'

export interface Removal {
  /** A name, a digest, or the beginning of an id. */
  readonly ref: string
  /** By id: also when the image has several tags. */
  readonly force: boolean
  /** Whether a container uses the image. Called only if the image itself would be removed. */
  readonly inUse: (image: Image) => Promise<boolean>
}
/** The removed names, in short form, and the ids of the images that are gone with them. */
export interface Removed {
  readonly untagged: string[]
  readonly deleted: Digest[]
}

/**
 * docker's `rmi`. By name it removes that tag, and with the last tag the image. By id or digest it
 * removes the image and its tag, and several tags only with `force`. The image's blobs are left to
 * the collector.
 *
 * For a manifest that is no image, it removes the tag, and the manifest with its last tag in that
 * repository, unless a client has put it by its digest (`Manifests`). A name whose record is
 * damaged is removed alone: it is not known which image it stood for.
 *
 * @throws StrataError `image_not_found`, `image_ambiguous`, `image_has_tags`, and `image_in_use`,
 * which force does not overrule
 */
export async function removeImage(names: Names, manifests: Manifests, removal: Removal): Promise<Removed> {
  const meaning = meaningOf(removal.ref)
  for (let attempt = 0; attempt < CAS_ATTEMPTS; attempt++) {
    const named = await entryNamed(names, meaning)
    const unreadable =
      named && 'damage' in named ? named : meaning.digest ? await names.damagedOf(meaning.digest) : undefined
    if (unreadable) {
      if (!(await names.retire(unreadable))) continue
      return { untagged: [textOfName(unreadable.name)], deleted: [] }
    }
    if (named && 'manifest' in named) {
      if (named.name.tag === undefined) return removeManifest(names, manifests, removal, named)
      if (!(await names.retire(named))) continue
      await manifests.retireUntagged(named.name.repository, named.manifest.digest)
      return { untagged: [textOfName(named.name)], deleted: [] }
    }
    if (!named?.name.tag || 'damage' in named)
      return removeWithTags(names, manifests, removal, await imageEntries(names, removal.ref))
    const { digest, id } = named.image
    const isLast = !(await hasTag(names, digest, named.key))
    if (isLast) await refuseInUse(removal, [named.image])
    if (!(await names.retire(named))) continue
    const untagged = namesOf([named])
    // Another call may have removed the other tag meanwhile: then nobody has asked for the image.
    if (!isLast && !(await hasTag(names, digest)) && (await removal.inUse(named.image)))
      return { untagged, deleted: [] }
    await manifests.retireUntagged(named.name.repository, digest)
    // Looked at again, in one list: a tag that another call has set meanwhile keeps the image. If
    // two calls remove the last two tags, one of them sees that both are gone.
    const rest = await names.allOfDigest(digest)
    if (rest.some(({ name }) => name.tag)) return { untagged, deleted: [] }
    return { untagged, deleted: (await retireAll(names, manifests, rest)) ? await gone(names, [id]) : [] }
  }
  throw changedTooOften(`of ${removal.ref}`)
}

/** What a name's own record says: a tag's, or that of an entry by digest. */
async function entryNamed(names: Names, { name }: Meaning): Promise<NameEntry | PlainEntry | DamagedName | undefined> {
  if (name?.digest) return names.look(keys.imageDigest(name.repository, name.digest))
  return name?.tag ? names.look(keys.tag(name.repository, name.tag)) : undefined
}

/** Whether the manifest has a tag other than the one with the key `beside`. */
async function hasTag(names: Names, digest: Digest, beside?: string): Promise<boolean> {
  for await (const { name, key } of names.ofDigest(digest)) {
    if (!name.tag) return false
    if (key !== beside) return true
  }
  return false
}

/** A manifest that a client has put by its digest, with its tags in that repository. */
async function removeManifest(
  names: Names,
  manifests: Manifests,
  removal: Removal,
  { name, manifest: { digest } }: PlainEntry,
): Promise<Removed> {
  const { repository } = name
  if (repository === undefined) return { untagged: [textOfName(name)], deleted: [] }
  const tags: string[] = []
  const images: Image[] = []
  for await (const tag of names.tagsIn(repository, digest)) {
    tags.push(textOfName(tag.name))
    if ('image' in tag) images.push(tag.image)
  }
  refuseSeveral(removal, tags)
  // Without a tag its bytes say what it is. A manifest that cannot be read can still be removed.
  const described = await manifests.tagged(repository, digest).catch((error: unknown) => {
    if (!isOfOneManifest(error)) throw error
  })
  if (described && !isPlain(described.tagged)) images.push(described.tagged)
  await refuseInUse(removal, images)
  await manifests.delete(repository, digest)
  return { untagged: [...tags, textOfName(name)], deleted: [] }
}

function refuseSeveral({ ref, force }: Removal, tags: readonly string[]): void {
  if (tags.length > 1 && !force)
    throw new StrataError(
      'image_has_tags',
      `${ref} has ${tags.length} tags (${tags.slice(0, 5).join(', ')}${tags.length > 5 ? ', …' : ''}): remove them one by one, or force it`,
    )
}

async function removeWithTags(
  names: Names,
  manifests: Manifests,
  removal: Removal,
  entries: NameEntry[],
): Promise<Removed> {
  const tags = namesOf(entries)
  refuseSeveral(removal, tags)
  await refuseInUse(
    removal,
    entries.map(({ image }) => image),
  )
  const complete = await retireAll(names, manifests, entries)
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
async function imageEntries(names: Names, ref: string): Promise<NameEntry[]> {
  const { name, digest, idPrefix } = meaningOf(ref)
  if (name?.digest) {
    const entries = await names.allOfDigest(name.digest)
    if (!entries.some((entry) => entry.name.repository === name.repository)) throw notFound(ref)
    return entries
  }
  const found = await findById(names, { digest, idPrefix })
  if (!found) throw notFound(ref)
  const { id } = found.image
  if (found.image.digest === digest) return names.allOfDigest(digest)
  const entries: NameEntry[] = []
  for await (const { image } of names.ofId(id)) entries.push(...(await names.allOfDigest(image.digest)))
  return entries.filter(({ image }) => image.id === id)
}

async function refuseInUse({ ref, inUse }: Removal, images: readonly Image[]): Promise<void> {
  for (const image of new Map(images.map((image) => [image.digest, image])).values())
    if (await inUse(image))
      throw new StrataError('image_in_use', `the image ${ref} is used by a container: remove the container first`)
}

/**
 * Ends these names, tags first: an image that is half removed is still found by its digest. `false`
 * if another writer has changed one of them, which then stays.
 */
async function retireAll(names: Names, manifests: Manifests, entries: readonly NameEntry[]): Promise<boolean> {
  let complete = true
  for (const entry of entries.toSorted((a, b) => Number(!a.name.tag) - Number(!b.name.tag)))
    complete = (await (entry.name.tag ? names.retire(entry) : manifests.retire(entry))) && complete
  return complete
}

/** Those of the ids that no entry has any more. */
async function gone(names: Names, ids: readonly Digest[]): Promise<Digest[]> {
  const left = await Promise.all([...new Set(ids)].map(async (id) => ((await hasName(names, id)) ? [] : [id])))
  return left.flat()
}

async function hasName(names: Names, id: Digest): Promise<boolean> {
  for await (const _ of names.ofId(id)) return true
  return false
}
