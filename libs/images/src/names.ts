import { failpoint, JointRuns } from '@strata/base'
import { algorithmOf, hexOf, type Digest, type Repository } from '@strata/oci'
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
import type { RecordedManifest } from './image.js'
import {
  digestIn,
  entryOf,
  expectImageKey,
  keyOfImageKey,
  manifestIn,
  mayBeOf,
  nameRecordSchema,
  type AnyName,
  type DamagedName,
  type NameEntry,
  type NameRecord,
  type PlainEntry,
} from './name-entry.js'
import { marksOf, NameMarks, type MarkedManifest, type NameMark } from './name-marks.js'
import { textOfName } from './named-images.js'

/** As long as the id of marks is. */
const A_MARK = 'x'.repeat(16)
/** See `Names.renew`. */
type Renewed = Pick<Found<NameRecord>, 'value'> | undefined
/** How many names are read at the same time. */
const AT_ONCE = 16

/**
 * The names' records, and their reverse. A look-up takes a number of store calls that depends on
 * its result, not on the number of names. Nothing that was read is kept: a method that goes over
 * all names (`walk`, `byImage`, `count`) reads them page by page, and gives each as it is read.
 *
 * In a store of an older version names have no marks until `MarkUpkeep.markAll` has run once. Until
 * then every look-up reads all names.
 */
export class Names {
  readonly #records: Records<NameRecord>
  readonly #marks: NameMarks
  readonly #renewing = new JointRuns<string, Renewed>()

  constructor(private readonly store: ObjectStore) {
    this.#records = nameRecords(store)
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
   * read the record before. Gives what was there; `undefined`: there is no record. (A damaged
   * record has no value.) One write serves all who ask before it begins.
   */
  async renew(key: string): Promise<Renewed> {
    return this.#renewing.run(key, () => this.#renewNow(key))
  }

  async #renewNow(key: string): Promise<Renewed> {
    for (let attempt = 0; attempt < CAS_ATTEMPTS; attempt++) {
      const seen = await this.#records.look(key)
      if (seen?.damage) return seen
      if (!seen?.value) return undefined
      if ((await this.#records.write(key, seen.value, seen)) !== undefined) return seen
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

/** The records of names. */
export function nameRecords(store: ObjectStore): Records<NameRecord> {
  return new Records(store, nameRecordSchema, 'the record of image name', remedyFor)
}

function hasSameMarks(name: ImageKey, a: MarkedManifest, b: MarkedManifest): boolean {
  return marksOf(name, a, '-').join() === marksOf(name, b, '-').join()
}

function tagsFirst(a: NameEntry, b: NameEntry): number {
  return Number(!a.name.tag) - Number(!b.name.tag)
}

function remedyFor(key: string): string {
  const name = parseImageKey(key)
  const text = name ? textOfName(name) : key
  return `load ${text} again, or remove it (strata rmi ${text}); until then no blob is collected`
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
