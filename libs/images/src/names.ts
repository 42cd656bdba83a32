import { familiarReference, type Reference } from '@strata/oci'
import {
  keys,
  parseImageKey,
  PREFIX,
  Records,
  type Found,
  type ImageKey,
  type ListedRecord,
  type ObjectStore,
} from '@strata/store'
import { imageSchema, type Image, type NamedImage } from './image.js'
import { united } from './whole.js'

/** One record below `images/`: a tag, or an entry by digest, and the image that it stands for. */
export interface NameEntry {
  readonly key: string
  readonly name: ImageKey
  readonly image: Image
  readonly found: Found<Image>
}

/**
 * The key that a name has: a tag's, or, without one, the entry by digest of its repository (of none
 * if there is no name at all).
 */
export function keyOfName(name: Reference | undefined, image: Image): string {
  return name?.tag ? keys.tag(name.repository, name.tag) : keys.imageDigest(name?.repository, image.digest)
}

/** Of so many names what was read is kept: some 10 MiB. */
const MAX_KNOWN = 10_000

export class Names {
  readonly records: Records<Image>
  #known: ReadonlyMap<string, ListedRecord<Image>> = new Map()

  constructor(store: ObjectStore) {
    this.records = new Records(store, imageSchema, 'the record of image name')
  }

  /**
   * All names, in the order of their keys. Read are those that have changed since the last time.
   */
  async all(): Promise<NameEntry[]> {
    const entries: NameEntry[] = []
    const known = new Map<string, ListedRecord<Image>>()
    for await (const record of this.records.list(PREFIX.images, this.#known)) {
      const { key, value, etag } = record
      if (known.size < MAX_KNOWN) known.set(key, record)
      const name = parseImageKey(key)
      if (name) entries.push({ key, name, image: value, found: { value, etag } })
    }
    this.#known = known
    return entries
  }
}

/**
 * One row an image: entries grouped by the manifest's digest, those with names first, then newest
 * first.
 */
export function groupByImage(entries: readonly NameEntry[]): NamedImage[] {
  const images = Object.values(Object.groupBy(entries, ({ image }) => image.digest)).map((group) => ({
    ...group!.map(({ image }) => image).reduce(united),
    names: namesOf(group!),
  }))
  return images.sort(
    (a, b) =>
      Number(b.names.length > 0) - Number(a.names.length > 0) ||
      compare(b.created ?? '', a.created ?? '') ||
      compare(a.digest, b.digest),
  )
}

/** The tags among the entries, in short form, sorted. */
export function namesOf(entries: readonly NameEntry[]): string[] {
  return entries.flatMap(({ name }) => (name.tag ? [familiarReference(name)] : [])).sort()
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
