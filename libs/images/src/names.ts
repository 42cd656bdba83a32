import { failpoint, StrataError } from '@strata/base'
import {
  algorithmOf,
  familiarReference,
  hexOf,
  isDigest,
  NOT_A_DIGEST,
  type Digest,
  type Repository,
} from '@strata/oci'
import {
  CAS_ATTEMPTS,
  changedTooOften,
  keys,
  parseImageKey,
  PREFIX,
  Records,
  TOMBSTONE_BYTES,
  type Found,
  type ImageKey,
  type ObjectStore,
} from '@strata/store'
import { z } from 'zod'
import {
  imageSchema,
  isPlain,
  MAX_LACKS,
  plainSchema,
  recordOf,
  type Image,
  type NamedImage,
  type PlainManifest,
  type RecordedManifest,
} from './image.js'
import { marksOf, NameMarks, type MarkedManifest, type NameMark } from './name-marks.js'
import { united } from './whole.js'

const mark = z.string().min(1).max(32).optional()
/** Of an index's entry by digest: its children that the repository did not have (`Indexes`). */
const lacks = z.array(z.custom<Digest>(isDigest, NOT_A_DIGEST)).max(MAX_LACKS).optional()
/**
 * What a name stands for, and the id of the name's marks (`NameMarks`). A record that an older
 * version wrote has none until the storage service has given it some.
 */
const nameRecordSchema = z.union([plainSchema.extend({ mark, lacks }), imageSchema.extend({ mark, lacks })])
type NameRecord = z.infer<typeof nameRecordSchema>

/** One record below `images/`: a tag, or an entry by digest, and the image that it stands for. */
export interface NameEntry {
  readonly key: string
  readonly name: ImageKey
  readonly image: Image
  readonly found: Found<NameRecord>
  /** See `Indexes`. */
  readonly lacks?: readonly Digest[] | undefined
}

/** The same of a manifest that is not listed as an image. */
export interface PlainEntry {
  readonly key: string
  readonly name: ImageKey
  readonly manifest: PlainManifest
  readonly found: Found<NameRecord>
  readonly lacks?: readonly Digest[] | undefined
}

/** A name whose record cannot be read. It stands for an image, and nobody can tell for which. */
export interface DamagedName {
  readonly key: string
  readonly name: ImageKey
  /** To retire it as it is. */
  readonly found: Found<NameRecord>
  readonly damage: StrataError
}

/** A name as a walk over all of them finds it. */
export type AnyName = NameEntry | PlainEntry | DamagedName

/** As long as the id of marks is. */
const A_MARK = 'x'.repeat(16)
/** How many names are read, or marks deleted, at the same time. */
const AT_ONCE = 16
/**
 * So many marks at a time are compared with all name marks: about 15 MiB. Each such comparison
 * lists all name marks once more.
 */
const MARKS_AT_A_TIME = 50_000

/**
 * The names' records, and their reverse. A look-up takes a number of store calls that depends on
 * its result, not on the number of names. Nothing that was read is kept: a method that goes over
 * all names (`walk`, `byImage`, `count`) reads them page by page, and gives each as it is read.
 *
 * In a store of an older version names have no marks until `markAll` has run once. Until then every
 * look-up reads all names.
 */
export class Names {
  readonly #records: Records<NameRecord>
  readonly #marks: NameMarks

  constructor(private readonly store: ObjectStore) {
    this.#records = new Records(store, nameRecordSchema, 'the record of image name', remedyFor)
    this.#marks = new NameMarks(store)
  }

  /** What a name stands for. @throws StrataError `corrupt` */
  async read(key: string): Promise<RecordedManifest | undefined> {
    const record = await this.#records.read(key)
    return record && manifestIn(record)
  }

  /** A name by its key. @throws StrataError `corrupt` if its record is damaged */
  async find(key: string): Promise<NameEntry | PlainEntry | undefined> {
    const entry = await this.look(key)
    if (entry && 'damage' in entry) throw entry.damage
    return entry
  }

  /** A name by its key. A damaged one is given with `damage`, not thrown. */
  async look(key: string): Promise<AnyName | undefined> {
    const name = parseImageKey(key)
    const found = name && (await this.#records.look(key))
    if (!found) return undefined
    if (found.damage) return { key, name, found, damage: found.damage }
    return found.value && entryOf(key, name, found, found.value)
  }

  /** A name by its key, for a caller that writes it next (`Records.findToWrite`). */
  async findToWrite(
    key: string,
  ): Promise<{ readonly before: RecordedManifest | undefined; readonly found: Found<NameRecord> | undefined }> {
    const found = await this.#records.findToWrite(key)
    return { before: found?.value && manifestIn(found.value), found }
  }

  /**
   * Points a name at a manifest, over what `findToWrite` found. `false`: another writer was first.
   * Makes the new marks before it writes the record, and deletes the old ones after that
   * (`NameMarks`). Without `lacks`, the `lacks` of a record of the same manifest stay.
   */
  async write(
    key: string,
    manifest: RecordedManifest,
    found: Found<NameRecord> | undefined,
    lacks?: readonly Digest[],
  ): Promise<boolean> {
    const name = expectImageKey(key)
    const before = found?.value
    const lacked = lacks ?? (before?.digest === manifest.digest ? before.lacks : undefined) ?? []
    const record: NameRecord = lacked.length > 0 ? { ...manifest, lacks: [...lacked] } : manifest
    // The marks of the record are used again: a process that deletes them has changed the record
    // before.
    const kept = before && hasSameMarks(name, before, record) ? before.mark : undefined
    // A record that is too large would leave up to some thousand marks of no name.
    this.#records.expectFits(key, { ...record, mark: kept ?? A_MARK })
    const mark = kept ?? (await this.#marks.add(name, record))
    if ((await this.#records.write(key, { ...record, mark }, found)) === undefined) {
      if (kept === undefined) await this.#marks.delete(name, record, mark)
      return false
    }
    if (before?.mark !== undefined && kept === undefined) await this.#marks.delete(name, before, before.mark)
    return true
  }

  /**
   * Changes the ETag of an existing record and nothing else, so that a write fails if its writer
   * read the record before. `false`: there is no record.
   */
  async renew(key: string): Promise<boolean> {
    for (let attempt = 0; attempt < CAS_ATTEMPTS; attempt++) {
      const seen = await this.#records.look(key)
      if (seen?.damage) return true
      if (!seen?.value) return false
      if ((await this.#records.write(key, seen.value, seen)) !== undefined) return true
    }
    throw changedTooOften(key)
  }

  /**
   * The tags of a repository that stand for the manifest now. A damaged tag is given too: it may
   * stand for the manifest.
   */
  async *tagsIn(repository: Repository, digest: Digest): AsyncGenerator<AnyName> {
    if (!(await this.#marks.areComplete())) {
      for await (const entry of this.walk())
        if (entry.name.tag && entry.name.repository === repository && mayBeOf(entry, digest)) yield entry
      return
    }
    for await (const { name } of this.#marks.tagsIn(repository, digest)) {
      const entry = await this.look(keyOfImageKey(name, digest))
      if (entry && mayBeOf(entry, digest)) yield entry
    }
  }

  /** The indexes of a repository that lack the manifest (`Indexes`). */
  async *lackedBy(repository: Repository, digest: Digest): AsyncGenerator<Digest> {
    for await (const parent of this.#marks.parentsOf(digest, repository)) {
      const entry = await this.look(keys.imageDigest(repository, parent))
      if (entry && !('damage' in entry) && entry.lacks?.includes(digest)) yield parent
    }
  }

  /** The indexes of a repository whose records may name the manifest, as a part or as a lack. */
  mayName(repository: Repository, digest: Digest): AsyncGenerator<Digest> {
    return this.#marks.parentsOf(digest, repository)
  }

  /** Whether an index of the repository lacks the manifest. */
  async isLacked(repository: Repository, digest: Digest): Promise<boolean> {
    for await (const _ of this.lackedBy(repository, digest)) return true
    return false
  }

  /** The indexes of a repository that have the manifest as a part, except `beside`. */
  async *parentsOf(repository: Repository, digest: Digest, beside?: Digest): AsyncGenerator<Digest> {
    for await (const parent of this.#marks.parentsOf(digest, repository)) {
      if (parent === beside) continue
      const record = await this.read(keys.imageDigest(repository, parent))
      if (record?.whole?.parts.some((part) => part.digest === digest)) yield parent
    }
  }

  /**
   * A page of the manifests of a repository that may have this subject, or may be part of an index
   * that was loaded with them (`NameMarks.referrersOf`).
   */
  async mayReferTo(
    repository: Repository,
    subject: Digest,
    limit: number,
    after: Digest | undefined,
  ): Promise<{ readonly digests: readonly Digest[]; readonly next?: Digest }> {
    return this.#marks.referrersOf(subject, repository, limit, after)
  }

  /**
   * Ends a manifest's entry by digest, unless a tag of its repository stands for the manifest: see
   * `Manifests`. The entry was read before this is called. `false`: a tag stands, or the entry has
   * changed.
   */
  async retireManifest(entry: NameEntry | PlainEntry): Promise<boolean> {
    const { repository } = entry.name
    if (repository !== undefined) for await (const _ of this.tagsIn(repository, digestIn(entry))) return false
    return this.retire(entry)
  }

  /**
   * To be called after a tag was removed. Ends the entry by digest of the manifest that the tag
   * stood for, if it was kept only for its tags and has none any more.
   */
  async retireUntagged(repository: Repository, digest: Digest): Promise<void> {
    for (let attempt = 0; attempt < CAS_ATTEMPTS; attempt++) {
      const entry = await this.look(keys.imageDigest(repository, digest))
      if (!entry || 'damage' in entry || ('manifest' in entry && entry.manifest.kept === 'digest')) return
      if (await this.retireManifest(entry)) return
      for await (const _ of this.tagsIn(repository, digest)) return
    }
    throw changedTooOften(keys.imageDigest(repository, digest))
  }

  /** Ends a name if it is still as it was found. */
  async retire({ key, name, found }: NameEntry | PlainEntry | DamagedName): Promise<boolean> {
    if (!(await this.#records.retire(key, found))) return false
    failpoint('remove.name-retired')
    const { value } = found
    if (value?.mark !== undefined) await this.#marks.delete(name, value, value.mark)
    return true
  }

  /** The names of a manifest that can be read, those with a tag first. */
  async *ofDigest(digest: Digest): AsyncGenerator<NameEntry> {
    for await (const entry of this.#ofDigest(digest)) if ('image' in entry) yield entry
  }

  async allOfDigest(digest: Digest): Promise<NameEntry[]> {
    const entries: NameEntry[] = []
    for await (const entry of this.ofDigest(digest)) entries.push(entry)
    return entries
  }

  /** The manifest's entry by digest, if there is one and it cannot be read. */
  async damagedOf(digest: Digest): Promise<DamagedName | undefined> {
    for await (const entry of this.#ofDigest(digest))
      if ('damage' in entry && entry.name.digest === digest) return entry
    return undefined
  }

  /** The manifests of the images with this id, each with its first name. */
  async *ofId(id: Digest): AsyncGenerator<NameEntry> {
    if (!(await this.#marks.areComplete())) {
      const entries = (await this.#allImages()).entries.filter(({ image }) => image.id === id).sort(tagsFirst)
      for (const group of Object.values(Object.groupBy(entries, ({ image }) => image.digest))) yield group![0]!
      return
    }
    for await (const digest of this.#marks.digestsOf(id)) {
      for await (const entry of this.ofDigest(digest)) {
        if (entry.image.id !== id) continue
        yield entry
        break
      }
    }
  }

  /**
   * The ids whose hex digits begin with `hexPrefix`, each once. With `algorithm`, only ids of that.
   * An id whose last name was removed may be among them.
   */
  async *idsWith(hexPrefix: string, algorithm?: string): AsyncGenerator<Digest> {
    if (await this.#marks.areComplete()) yield* this.#marks.idsWith(hexPrefix, algorithm)
    else {
      const ids = (await this.#allImages()).entries.map(({ image }) => image.id)
      const isWanted = (id: Digest): boolean => algorithm === undefined || algorithmOf(id) === algorithm
      yield* new Set(ids.filter((id) => hexOf(id).startsWith(hexPrefix) && isWanted(id)))
    }
  }

  /**
   * Manifests in the order of their digests, from the one behind `after`, each with all its names:
   * at most `limit`; `next` if more may follow.
   */
  async page(
    after: Digest | undefined,
    limit: number,
  ): Promise<{ readonly groups: NameEntry[][]; readonly next?: Digest }> {
    const groups: NameEntry[][] = []
    for await (const { entries } of this.byImage(after, limit + 1)) {
      const last = groups.at(-1)?.[0]?.image.digest
      if (groups.length === limit && last) return { groups, next: last }
      if (entries.length > 0) groups.push(entries)
    }
    return { groups }
  }

  /**
   * All manifests that an image may have, in the order of their digests, from the one behind
   * `after`: each with all its names. `damaged` are names that cannot be read and may stand for the
   * manifest. Reads `pageSize` marks at a time, and one image's names.
   */
  async *byImage(
    after?: Digest,
    pageSize = 1_000,
  ): AsyncGenerator<{ readonly digest: Digest; readonly entries: NameEntry[]; readonly damaged: DamagedName[] }> {
    for await (const { digest, names } of this.#groups(after, pageSize)) {
      const entries: NameEntry[] = []
      const damaged: DamagedName[] = []
      for await (const entry of names())
        if ('damage' in entry) damaged.push(entry)
        else if ('image' in entry && entry.image.digest === digest) entries.push(entry)
      yield { digest, entries, damaged }
    }
  }

  /**
   * How many manifests have the name of an image. Lists their marks, and reads no name: a mark that
   * a dead process has left counts too, until the next collection.
   */
  async count(): Promise<number> {
    const groups = this.#groups(undefined, 1_000)
    let count = 0
    while (!(await groups.next()).done) count++
    return count
  }

  /**
   * All names in the order of their keys, page by page. The names of a repository come one after
   * the other: its manifests, then its tags. A name that is there from the beginning to the end is
   * given once.
   */
  async *walk(): AsyncGenerator<AnyName> {
    let after: string | undefined
    do {
      const page = await this.store.list(PREFIX.images, after === undefined ? {} : { after })
      // Where tombstones stay, there may be many. Their size shows them, so they are not read.
      yield* this.#lookAt(page.objects.flatMap(({ key, size }) => (size === TOMBSTONE_BYTES ? [] : [key])))
      after = page.next
    } while (after !== undefined)
  }

  /**
   * Gives marks to the names that have none, once for each store: those of an older version, and
   * after a loss of power. For the start of the storage service. It may die at any line: the note
   * that all names have marks is written last.
   */
  async markAll(): Promise<void> {
    if (await this.#marks.areComplete()) return
    for await (const entry of this.walk()) if (!('damage' in entry)) await this.#markOne(entry)
    await this.#marks.setComplete()
  }

  /**
   * Deletes the marks that dead processes left. Gives marks to the names that an older version has
   * written since, and calls `beforeMarked` before each of them. For the collection.
   */
  async tidyMarks(beforeMarked: (entry: NameEntry | PlainEntry) => Promise<void>): Promise<void> {
    let batch: NameMark[] = []
    const tidy = async () => {
      await Promise.all(batch.map((mark) => this.#tidyOne(mark)))
      batch = []
    }
    for await (const mark of this.#marks.allNameMarks()) if (batch.push(mark) === AT_ONCE) await tidy()
    await tidy()
    let others = new Map<string, string[]>()
    let count = 0
    for await (const { key, mark } of this.#marks.allOtherMarks()) {
      others.set(mark, [...(others.get(mark) ?? []), key])
      if (++count < MARKS_AT_A_TIME) continue
      await this.#deleteLost(others)
      others = new Map()
      count = 0
    }
    await this.#deleteLost(others)
    for await (const entry of this.walk()) {
      if ('damage' in entry || entry.found.value?.mark !== undefined) continue
      await beforeMarked(entry)
      await this.#markOne(entry)
    }
  }

  /**
   * Deletes the other marks whose name mark does not exist: they belong to no name. They were
   * listed before this is called: a name mark is made before the other marks of its name.
   * @param others their keys, by mark
   */
  async #deleteLost(others: Map<string, string[]>): Promise<void> {
    if (others.size === 0) return
    for await (const { mark } of this.#marks.allNameMarks()) others.delete(mark)
    const lost = [...others.values()].flat()
    for (let at = 0; at < lost.length; at += AT_ONCE) await this.#marks.deleteKeys(lost.slice(at, at + AT_ONCE))
  }

  /**
   * Deletes a mark that its name's record does not have. A write of the name that will have the
   * mark may be under way. So that write is first made to fail; it makes other marks then.
   */
  async #tidyOne({ key: mark, name, digest, mark: id }: NameMark): Promise<void> {
    const key = keyOfImageKey(name, digest)
    const mayCarryIt = async () => {
      const seen = await this.#records.look(key)
      return seen?.damage !== undefined || seen?.value?.mark === id
    }
    if (await mayCarryIt()) return
    await this.#records.renew(key)
    if (!(await mayCarryIt())) await this.#marks.deleteKeys([mark])
  }

  async #markOne({ key, name, found }: NameEntry | PlainEntry): Promise<void> {
    let seen: Found<NameRecord> | undefined = found
    for (let attempt = 0; attempt < CAS_ATTEMPTS; attempt++) {
      if (!seen?.value) return
      const { mark } = seen.value
      const record = manifestIn(seen.value)
      if (mark !== undefined && (await this.#marks.have(name, seen.value, mark))) return
      if (await this.write(key, record, { ...seen, value: { ...seen.value, mark: undefined } })) return
      seen = await this.#records.look(key)
    }
    throw changedTooOften(key)
  }

  async *#ofDigest(digest: Digest): AsyncGenerator<AnyName> {
    if (await this.#marks.areComplete()) {
      let last: string | undefined
      for await (const page of this.#marks.ofDigest(digest)) {
        for await (const entry of this.#read(page)) {
          // While a name is being written again, it has the marks of both writes.
          if (entry.key === last) continue
          last = entry.key
          if (mayBeOf(entry, digest)) yield entry
        }
      }
      return
    }
    const { entries, damaged } = await this.#allImages()
    yield* damaged
    yield* entries.filter(({ image }) => image.digest === digest).sort(tagsFirst)
  }

  /** The manifests that have name marks of an image. `names` reads their names. */
  async *#groups(
    after: Digest | undefined,
    pageSize: number,
  ): AsyncGenerator<{ digest: Digest; names: () => AsyncIterable<AnyName> | readonly AnyName[] }> {
    if (await this.#marks.areComplete()) {
      for await (const { digest, marks } of this.#marks.groups(after, Math.min(pageSize, 1_000))) {
        const found = new Set(marks.map(({ name }) => keyOfImageKey(name, digest)))
        yield { digest, names: () => this.#lookAt([...found]) }
      }
      return
    }
    const { entries, damaged } = await this.#allImages()
    const groups = Object.entries(Object.groupBy(entries, ({ image }) => keys.nameMarksOf(image.digest)))
    const from = after === undefined ? '' : keys.nameMarksOf(after)
    for (const [order, group] of groups.sort(([a], [b]) => compare(a, b)))
      if (order > from) yield { digest: group![0]!.image.digest, names: () => [...damaged, ...group!] }
  }

  async *#read(marks: readonly NameMark[]): AsyncGenerator<AnyName> {
    yield* this.#lookAt(marks.map(({ name, digest }) => keyOfImageKey(name, digest)))
  }

  async *#lookAt(found: readonly string[]): AsyncGenerator<AnyName> {
    for (let at = 0; at < found.length; at += AT_ONCE)
      for (const entry of await Promise.all(found.slice(at, at + AT_ONCE).map((key) => this.look(key))))
        if (entry) yield entry
  }

  /** For a store whose names have no marks yet. */
  async #allImages(): Promise<{ readonly entries: NameEntry[]; readonly damaged: DamagedName[] }> {
    const entries: NameEntry[] = []
    const damaged: DamagedName[] = []
    for await (const entry of this.walk())
      if ('damage' in entry) damaged.push(entry)
      else if ('image' in entry) entries.push(entry)
    return { entries, damaged }
  }
}

function manifestIn(record: NameRecord): RecordedManifest {
  const manifest = { ...record }
  delete manifest.mark
  delete manifest.lacks
  return manifest
}

function entryOf(key: string, name: ImageKey, found: Found<NameRecord>, value: NameRecord): NameEntry | PlainEntry {
  const manifest = manifestIn(value)
  const { lacks } = value
  return isPlain(manifest) ? { key, name, manifest, found, lacks } : { key, name, image: manifest, found, lacks }
}

function digestIn(entry: NameEntry | PlainEntry): Digest {
  return recordOf(entry).digest
}

function mayBeOf(entry: AnyName, digest: Digest): boolean {
  return 'damage' in entry || digestIn(entry) === digest
}

function hasSameMarks(name: ImageKey, a: MarkedManifest, b: MarkedManifest): boolean {
  return marksOf(name, a, '-').join() === marksOf(name, b, '-').join()
}

function tagsFirst(a: NameEntry, b: NameEntry): number {
  return Number(!a.name.tag) - Number(!b.name.tag)
}

function keyOfImageKey(name: ImageKey, digest: Digest): string {
  return name.tag === undefined ? keys.imageDigest(name.repository, digest) : keys.tag(name.repository, name.tag)
}

function expectImageKey(key: string): ImageKey {
  const name = parseImageKey(key)
  if (!name) throw new StrataError('internal', `${key} is not the key of an image's name`)
  return name
}

/** The name in the form that `rmi` takes and people read. */
export function textOfName(name: ImageKey): string {
  const { repository, digest } = name
  if (digest === undefined) return familiarReference(name)
  return repository === undefined ? digest : familiarReference({ repository, tag: undefined, digest })
}

function remedyFor(key: string): string {
  const name = parseImageKey(key)
  const text = name ? textOfName(name) : key
  return `load ${text} again, or remove it (strata rmi ${text}); until then no blob is collected`
}

/**
 * One image for each manifest's digest among the entries: those with names first, then the newest
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
