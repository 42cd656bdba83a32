import { CAS_ATTEMPTS, changedTooOften, Records, type Found, type ObjectStore } from '@strata/store'
import { keyOfImageKey, manifestIn, type NameEntry, type NameRecord, type PlainEntry } from './name-entry.js'
import { NameMarks, type NameMark } from './name-marks.js'
import { nameRecords, type Names } from './names.js'

/** How many marks are looked at, or deleted, at the same time. */
const AT_ONCE = 16
/**
 * So many marks at a time are compared with all name marks: about 15 MiB. Each such comparison
 * lists all name marks once more.
 */
const MARKS_AT_A_TIME = 50_000

/** Makes the marks that names lack, and deletes those of no name (`NameMarks`). */
export class MarkUpkeep {
  readonly #records: Records<NameRecord>
  readonly #marks: NameMarks

  constructor(
    store: ObjectStore,
    private readonly names: Names,
  ) {
    this.#records = nameRecords(store)
    this.#marks = new NameMarks(store)
  }

  /**
   * Gives marks to the names that have none, once for each store: those of an older version, and
   * after a loss of power. For the start of the storage service. It may die at any line: the note
   * that all names have marks is written last.
   */
  async markAll(): Promise<void> {
    if (await this.#marks.areComplete()) return
    for await (const entry of this.names.walk()) if (!('damage' in entry)) await this.#markOne(entry)
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
    for await (const entry of this.names.walk()) {
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
      if (await this.names.write(key, record, { ...seen, value: { ...seen.value, mark: undefined } })) return
      seen = await this.#records.look(key)
    }
    throw changedTooOften(key)
  }
}
