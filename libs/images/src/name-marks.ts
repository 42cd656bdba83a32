import { randomBytes } from 'node:crypto'
import { hexOf, type Digest } from '@strata/oci'
import {
  keys,
  listAll,
  parseIdMark,
  parseNameMark,
  PREFIX,
  tombstone,
  type ImageKey,
  type ObjectStore,
} from '@strata/store'
import type { Image } from './image.js'

/** A name of an image, as its mark says. The name's record decides whether that is still so. */
export interface NameMark {
  /** The mark's own key. */
  readonly key: string
  readonly digest: Digest
  readonly name: ImageKey
  readonly mark: string
}

/**
 * A mark counts because it exists. These bytes are not those of a tombstone, so no collection takes
 * a mark for one.
 */
const MARK = Buffer.from('{}')
/** Most images have few names, and a look-up may end early. So its first page is small. */
const FIRST_PAGE = 4
const PAGE = 1_000

/**
 * The names of an image: the reverse of the names' records, so that a look-up need not list all
 * names. Each write of a name has two marks of its own, under keys with a fresh id: a *name mark*
 * below the manifest's digest, and an *id mark* below the image's id.
 *
 * **Law**: a name's record has the id of its marks (`mark`). While the record exists, both marks
 * exist.
 * - The marks are made before the record is written, and deleted after the record has changed. If
 *   the process dies in between, there is a mark too many, never one too few.
 * - A mark belongs to one name and one image, and no other write uses it. So it can be deleted
 *   without a condition, which S3 does not have.
 * - A mark is only a hint. Its reader looks at the name's record, which decides.
 * - The name mark is made first. So an id mark without its name mark belongs to no name.
 *
 * name-marks-model.ts tries every interleaving. `Names.tidyMarks` deletes what dead processes left.
 */
export class NameMarks {
  #areComplete = false

  constructor(private readonly store: ObjectStore) {}

  /**
   * Whether every name has its marks. `false` on a store of an older version until `setComplete`.
   */
  async areComplete(): Promise<boolean> {
    this.#areComplete ||= (await this.store.stat(keys.allNamesMarked)) !== undefined
    return this.#areComplete
  }

  /** Records that every name has its marks. */
  async setComplete(): Promise<void> {
    await this.store.create(keys.allNamesMarked, tombstone())
  }

  /** Makes the marks of a name that is written next, and gives their id. */
  async add(name: ImageKey, image: Image): Promise<string> {
    const mark = randomBytes(12).toString('base64url')
    await this.store.create(keys.nameMark(image.digest, name, mark), MARK)
    await this.store.create(keys.idMark(image.id, image.digest, mark), MARK)
    return mark
  }

  /** Whether both marks with this id exist. */
  async have(name: ImageKey, image: Image, mark: string): Promise<boolean> {
    const found = [keys.nameMark(image.digest, name, mark), keys.idMark(image.id, image.digest, mark)]
    return (await Promise.all(found.map((key) => this.store.stat(key)))).every(Boolean)
  }

  /** Deletes the marks of a name that does not have the image any more, or never got it. */
  async delete(name: ImageKey, image: Image, mark: string): Promise<void> {
    await this.store.delete([keys.idMark(image.id, image.digest, mark), keys.nameMark(image.digest, name, mark)])
  }

  async deleteKeys(found: readonly string[]): Promise<void> {
    await this.store.delete(found)
  }

  /** A manifest's name marks, page by page. Marks of tags come first. */
  async *ofDigest(digest: Digest): AsyncGenerator<NameMark[]> {
    const prefix = keys.nameMarksOf(digest)
    let after: string | undefined
    let limit = FIRST_PAGE
    do {
      const page = await this.store.list(prefix, { limit, ...(after === undefined ? {} : { after }) })
      yield page.objects.flatMap(({ key }) => readMark(key) ?? [])
      after = page.next
      limit = PAGE
    } while (after !== undefined)
  }

  /** The digests of the manifests that an image of this id may have, in order. */
  async *digestsOf(id: Digest): AsyncGenerator<Digest> {
    for await (const { digest } of this.#idMarks(
      keys.idMarksOf(id),
      (mark) => `${keys.idMarksOf(id)}${hexOf(mark.digest)}~~`,
    ))
      yield digest
  }

  /** The ids whose hex digits begin like this, each once. */
  async *idsWith(hexPrefix: string): AsyncGenerator<Digest> {
    for await (const { id } of this.#idMarks(keys.idMarksWith(hexPrefix), (mark) => `${keys.idMarksOf(mark.id)}~`))
      yield id
  }

  /**
   * All manifests that have a name mark, each with its marks, in the order of their digests' hex
   * digits, from the one behind `after`. Reads `pageSize` keys at a time.
   */
  async *groups(after: Digest | undefined, pageSize: number): AsyncGenerator<{ digest: Digest; marks: NameMark[] }> {
    let group: { digest: Digest; marks: NameMark[] } | undefined
    let from = after === undefined ? undefined : `${keys.nameMarksOf(after)}~`
    do {
      const page = await this.store.list(PREFIX.nameMarks, {
        limit: pageSize,
        ...(from === undefined ? {} : { after: from }),
      })
      for (const mark of page.objects.flatMap(({ key }) => readMark(key) ?? [])) {
        if (group?.digest === mark.digest) group.marks.push(mark)
        else {
          if (group) yield group
          group = { digest: mark.digest, marks: [mark] }
        }
      }
      from = page.next
    } while (from !== undefined)
    if (group) yield group
  }

  async *allNameMarks(): AsyncGenerator<NameMark> {
    for await (const { key } of listAll(this.store, PREFIX.nameMarks)) {
      const mark = readMark(key)
      if (mark) yield mark
    }
  }

  async *allIdMarks(): AsyncGenerator<{ readonly key: string; readonly mark: string }> {
    for await (const { key } of listAll(this.store, PREFIX.idMarks)) {
      const mark = parseIdMark(key)
      if (mark) yield { key, mark: mark.mark }
    }
  }

  /** Id marks below a prefix. After each, the list continues behind the key that `skipTo` gives. */
  async *#idMarks(
    prefix: string,
    skipTo: (mark: { id: Digest; digest: Digest }) => string,
  ): AsyncGenerator<{ id: Digest; digest: Digest }> {
    let after: string | undefined
    for (;;) {
      const page = await this.store.list(prefix, { limit: 1, ...(after === undefined ? {} : { after }) })
      const key = page.objects[0]?.key
      const mark = key === undefined ? undefined : parseIdMark(key)
      if (mark) yield mark
      after = mark ? skipTo(mark) : page.next
      if (key === undefined || after === undefined) return
    }
  }
}

function readMark(key: string): NameMark | undefined {
  const mark = parseNameMark(key)
  return mark && { key, ...mark }
}
