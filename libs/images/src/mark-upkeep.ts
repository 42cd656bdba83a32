import { createHash } from 'node:crypto'
import { CAS_ATTEMPTS, changedTooOften, Records, type Found, type ObjectStore } from '@strata/store'
import { keyOfImageKey, manifestIn, type NameEntry, type NameRecord, type PlainEntry } from './name-entry.js'
import { NameMarks, type NameMark } from './name-marks.js'
import { nameRecords, type Names } from './names.js'

/** How many marks are looked at, or deleted, at the same time. */
const AT_ONCE = 16
/**
 * So many marks at a time are compared with all name marks: about 35 MiB. Each such comparison
 * lists all name marks once more.
 */
const COMPARED_AT_A_TIME = 1_000_000
/** So many keys of lost marks are held at a time: about 15 MiB. */
const DELETED_AT_A_TIME = 50_000

/** Makes the marks that names lack, and deletes those of no name (`NameMarks`). */
export class MarkUpkeep {
  readonly #records: Records<NameRecord>
  readonly #marks: NameMarks

  constructor(
    store: ObjectStore,
    private readonly names: Names,
    private readonly comparedAtATime = COMPARED_AT_A_TIME,
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
    // Other marks are listed before the name marks: a name mark is made before those of its name.
    let others = new Set<number>()
    let passes = 0
    const compare = async (): Promise<void> => {
      await (passes++ === 0 ? this.#tidyNameMarks(others) : this.#leaveNamed(others))
      if (others.size > 0) await this.#deleteLost(others)
      others = new Set()
    }
    for await (const { mark } of this.#marks.allOtherMarks())
      if (others.add(numberOf(mark)).size === this.comparedAtATime) await compare()
    if (passes === 0 || others.size > 0) await compare()
    for await (const entry of this.names.walk()) {
      if ('damage' in entry || entry.found.value?.mark !== undefined) continue
      await beforeMarked(entry)
      await this.#markOne(entry)
    }
  }

  /**
   * Deletes the name marks that no name's record has. Takes the numbers of those that stay out of
   * `others`.
   */
  async #tidyNameMarks(others: Set<number>): Promise<void> {
    let batch: NameMark[] = []
    const tidy = async (): Promise<void> => {
      await Promise.all(
        batch.map(async (mark) => {
          if (await this.#mayStay(mark)) others.delete(numberOf(mark.mark))
        }),
      )
      batch = []
    }
    for await (const mark of this.#marks.allNameMarks()) if (batch.push(mark) === AT_ONCE) await tidy()
    await tidy()
  }

  async #leaveNamed(others: Set<number>): Promise<void> {
    for await (const { mark } of this.#marks.allNameMarks()) others.delete(numberOf(mark))
  }

  /** Deletes the other marks with these numbers whose name mark does not exist. */
  async #deleteLost(numbers: ReadonlySet<number>): Promise<void> {
    let lost = new Map<string, string[]>()
    let count = 0
    for await (const { key, mark } of this.#marks.allOtherMarks()) {
      if (!numbers.has(numberOf(mark))) continue
      lost.set(mark, [...(lost.get(mark) ?? []), key])
      if (++count < DELETED_AT_A_TIME) continue
      await this.#deleteUnnamed(lost)
      lost = new Map()
      count = 0
    }
    await this.#deleteUnnamed(lost)
  }

  /**
   * Deletes marks whose name mark does not exist: they belong to no name. They were listed before
   * this is called.
   * @param others their keys, by mark
   */
  async #deleteUnnamed(others: Map<string, string[]>): Promise<void> {
    if (others.size === 0) return
    for await (const { mark } of this.#marks.allNameMarks()) others.delete(mark)
    const lost = [...others.values()].flat()
    for (let at = 0; at < lost.length; at += AT_ONCE) await this.#marks.deleteKeys(lost.slice(at, at + AT_ONCE))
  }

  /**
   * Deletes a mark that its name's record does not have. A write of the name that will have the
   * mark may be under way. So that write is first made to fail; it makes other marks then. `false`:
   * it was deleted.
   */
  async #mayStay({ key: mark, name, digest, mark: id }: NameMark): Promise<boolean> {
    const key = keyOfImageKey(name, digest)
    const mayCarryIt = async () => {
      const seen = await this.#records.look(key)
      return seen?.damage !== undefined || seen?.value?.mark === id
    }
    if (await mayCarryIt()) return true
    await this.#records.renew(key)
    if (await mayCarryIt()) return true
    await this.#marks.deleteKeys([mark])
    return false
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

/**
 * Stands for a mark in a list of very many: it takes a quarter of the memory. Two marks may have
 * one number, so before a mark is deleted, the mark itself decides.
 */
function numberOf(mark: string): number {
  return createHash('sha256').update(mark).digest().readUIntBE(0, 6)
}
