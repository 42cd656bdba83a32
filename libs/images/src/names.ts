import { type StrataError } from '@strata/base'
import { familiarReference, type Reference } from '@strata/oci'
import {
  keys,
  parseImageKey,
  PREFIX,
  Records,
  type DamagedRecord,
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

/** A name whose record cannot be read. It stands for an image, and nobody can tell for which. */
export interface DamagedName {
  readonly key: string
  readonly name: ImageKey
  /** To retire it as it is. */
  readonly found: Found<Image>
  readonly damage: StrataError
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
    this.records = new Records(store, imageSchema, 'the record of image name', remedyFor)
  }

  /** All names that can be read, in the order of their keys. */
  async all(): Promise<NameEntry[]> {
    return (await this.look()).entries
  }

  /**
   * As `all`, for one who takes away what no name stands for.
   * @throws StrataError `corrupt` if a name is damaged: it stands for something
   */
  async allOrNone(): Promise<NameEntry[]> {
    const { entries, damaged } = await this.look()
    if (damaged[0]) throw damaged[0].damage
    return entries
  }

  /** All names. Read are those that have changed since the last time. */
  async look(): Promise<{ readonly entries: NameEntry[]; readonly damaged: DamagedName[] }> {
    const entries: NameEntry[] = []
    const damaged: DamagedName[] = []
    const known = new Map<string, ListedRecord<Image>>()
    const onDamaged = ({ key, etag, damage }: DamagedRecord): void => {
      const name = parseImageKey(key)
      if (name) damaged.push({ key, name, found: { value: undefined, etag }, damage })
    }
    for await (const record of this.records.list(PREFIX.images, { known: this.#known, onDamaged })) {
      const { key, value, etag } = record
      if (known.size < MAX_KNOWN) known.set(key, record)
      const name = parseImageKey(key)
      if (name) entries.push({ key, name, image: value, found: { value, etag } })
    }
    this.#known = known
    return { entries, damaged }
  }
}

/** As `rmi` takes it and people read it. */
export function textOfName(name: ImageKey): string {
  const { repository, digest } = name
  if (digest === undefined) return familiarReference(name)
  return repository === undefined ? digest : familiarReference({ repository, tag: undefined, digest })
}

function remedyFor(key: string): string {
  const name = parseImageKey(key)
  const text = name ? textOfName(name) : key
  return `load ${text} again, or remove it (strata rmi ${text}); until then nothing is collected`
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
