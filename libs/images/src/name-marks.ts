import { randomBytes } from 'node:crypto'
import { algorithmOf, hexOf, type Digest, type Repository } from '@strata/oci'
import {
  keys,
  listAll,
  parseIdMark,
  parseNameMark,
  parseRelationMark,
  PREFIX,
  tombstone,
  type ImageKey,
  type ObjectStore,
} from '@strata/store'
import { isPlain, type RecordedManifest } from './image.js'

/** A name of an image, as its mark says. The name's record decides whether that is still so. */
export interface NameMark {
  /** The mark's own key. */
  readonly key: string
  readonly digest: Digest
  readonly name: ImageKey
  readonly mark: string
}

/** The part of a name's record from which its marks follow. */
export type MarkedManifest = RecordedManifest & { readonly lacks?: readonly Digest[] | undefined }

/**
 * A mark counts because it exists. These bytes are not those of a tombstone, so no collection takes
 * a mark for one.
 */
const MARK = Buffer.from('{}')
/** Most images have few names, and a look-up may end early. So its first page is small. */
const FIRST_PAGE = 4
const PAGE = 1_000
/** How many marks are made or looked at at the same time. */
const AT_ONCE = 16

/**
 * The names of an image: the reverse of the names' records, so that a look-up need not list all
 * names. Each write of a name has marks of its own, under keys with a fresh id:
 *
 * | mark | below | of |
 * | --- | --- | --- |
 * | *name mark* | the manifest's digest | every tag; every entry by digest of an image |
 * | *id mark* | the image's id | every name of an image |
 * | *parent mark* | the digest of each part that is here, and of each child that is not | an index's entry by digest |
 * | *subject mark* | the subject's digest | the entry by digest of a manifest that has a subject, or of an index that was loaded with such a part |
 *
 * The name marks of plain manifests have a prefix of their own, so that a page of images does not
 * read them.
 *
 * **Law**: a name's record has the id of its marks (`mark`). While the record exists, all its marks
 * exist.
 * - The marks are made before the record is written, and deleted after the record has changed. If
 *   the process dies in between, there is a mark too many, never one too few.
 * - A mark belongs to one name and one manifest, and no other write uses it. So it can be deleted
 *   without a condition, which S3 does not have.
 * - A mark is only a hint. Its reader looks at the name's record, which decides.
 * - The name mark is made first. So another mark without its name mark belongs to no name.
 *
 * name-marks-model.ts tries every interleaving. `MarkUpkeep.tidyMarks` deletes what dead processes
 * left.
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
  async add(name: ImageKey, record: MarkedManifest): Promise<string> {
    const mark = randomBytes(12).toString('base64url')
    const [first, ...others] = marksOf(name, record, mark)
    if (first !== undefined) await this.store.create(first, MARK)
    for (let at = 0; at < others.length; at += AT_ONCE)
      await Promise.all(others.slice(at, at + AT_ONCE).map((key) => this.store.create(key, MARK)))
    return mark
  }

  /** Whether all marks with this id exist. */
  async have(name: ImageKey, record: MarkedManifest, mark: string): Promise<boolean> {
    const found = marksOf(name, record, mark)
    for (let at = 0; at < found.length; at += AT_ONCE) {
      const stats = await Promise.all(found.slice(at, at + AT_ONCE).map((key) => this.store.stat(key)))
      if (!stats.every(Boolean)) return false
    }
    return true
  }

  /** Deletes the marks of a name that does not stand for this manifest any more, or never did. */
  async delete(name: ImageKey, record: MarkedManifest, mark: string): Promise<void> {
    const found = marksOf(name, record, mark).reverse()
    if (found.length > 0) await this.store.delete(found)
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

  /**
   * The ids whose hex digits begin with `hexPrefix`, each once. With `algorithm`, only ids of that.
   */
  async *idsWith(hexPrefix: string, algorithm: string | undefined): AsyncGenerator<Digest> {
    const found = this.#idMarks(
      keys.idMarksWith(hexPrefix),
      (mark) => `${keys.idMarksOf(mark.id)}~`,
      ({ id }) => algorithm === undefined || algorithmOf(id) === algorithm,
    )
    for await (const { id } of found) yield id
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

  /**
   * The tags of one repository that may stand for the manifest. Repositories below this one are
   * skipped, with one call for each.
   */
  async *tagsIn(repository: Repository, digest: Digest): AsyncGenerator<NameMark> {
    for (const root of [PREFIX.nameMarks, PREFIX.artifactMarks]) {
      const prefix = `${keys.nameMarksOf(digest).replace(PREFIX.nameMarks, root)}tags/${repository}/`
      let after: string | undefined
      let limit = FIRST_PAGE
      do {
        const page = await this.store.list(prefix, { limit, ...(after === undefined ? {} : { after }) })
        after = page.next
        limit = PAGE
        for (const { key } of page.objects) {
          const mark = readMark(key)
          if (mark?.name.repository === repository) yield mark
          else {
            after = `${prefix}${key.slice(prefix.length).split('/', 1)[0] ?? ''}/~`
            break
          }
        }
      } while (after !== undefined)
    }
  }

  /** The indexes of a repository that may have the manifest. */
  async *parentsOf(digest: Digest, repository: Repository): AsyncGenerator<Digest> {
    for await (const { key } of listAll(this.store, keys.parentMarksOf(digest, repository))) {
      const mark = parseRelationMark(key)
      if (mark) yield mark.digest
    }
  }

  /** A page of a repository's manifests that may have the subject, each once, in their order. */
  async referrersOf(
    subject: Digest,
    repository: Repository,
    limit: number,
    after: Digest | undefined,
  ): Promise<{ readonly digests: readonly Digest[]; readonly next?: Digest }> {
    const prefix = keys.subjectMarksOf(subject, repository)
    const digests = new Set<Digest>()
    let from = after === undefined ? undefined : `${prefix}${hexOf(after)}~~`
    // A manifest may have any number of marks that dead processes have left, so pages grow.
    let ask = Math.min(limit + 1, PAGE)
    do {
      const page = await this.store.list(prefix, { limit: ask, ...(from === undefined ? {} : { after: from }) })
      ask = Math.min(4 * ask, PAGE)
      for (const { key } of page.objects) {
        const mark = parseRelationMark(key)
        if (mark) digests.add(mark.digest)
        if (digests.size > limit) {
          const found = [...digests].slice(0, limit)
          return { digests: found, next: found.at(-1)! }
        }
      }
      from = page.next
    } while (from !== undefined)
    return { digests: [...digests] }
  }

  async *allNameMarks(): AsyncGenerator<NameMark> {
    for (const prefix of [PREFIX.nameMarks, PREFIX.artifactMarks])
      for await (const { key } of listAll(this.store, prefix)) {
        const mark = readMark(key)
        if (mark) yield mark
      }
  }

  /** Id marks, parent marks and subject marks. */
  async *allOtherMarks(): AsyncGenerator<{ readonly key: string; readonly mark: string }> {
    for (const prefix of [PREFIX.idMarks, PREFIX.parentMarks, PREFIX.subjectMarks])
      for await (const { key } of listAll(this.store, prefix)) {
        const mark = parseIdMark(key) ?? parseRelationMark(key)
        if (mark) yield { key, mark: mark.mark }
      }
  }

  /**
   * Id marks below a prefix. After each, the list continues behind the key that `skipTo` gives.
   * There may be any number of unwanted marks before a wanted one, so pages grow until one comes.
   */
  async *#idMarks(
    prefix: string,
    skipTo: (mark: { id: Digest; digest: Digest }) => string,
    isWanted: (mark: { id: Digest }) => boolean = () => true,
  ): AsyncGenerator<{ id: Digest; digest: Digest }> {
    let after: string | undefined
    let limit = 1
    do {
      const page = await this.store.list(prefix, { limit, ...(after === undefined ? {} : { after }) })
      const mark = page.objects.map(({ key }) => parseIdMark(key)).find((found) => found && isWanted(found))
      if (mark) yield mark
      after = mark ? skipTo(mark) : page.next
      limit = mark ? 1 : Math.min(4 * limit, PAGE)
    } while (after !== undefined)
  }
}

/** The keys of all marks of a write, the name mark first. */
export function marksOf(name: ImageKey, record: MarkedManifest, mark: string): string[] {
  const { digest } = record
  const { repository } = name
  const relations: string[] = []
  if (name.tag === undefined && repository !== undefined) {
    const subject = isPlain(record) ? record.attached?.subject : undefined
    if (subject !== undefined) relations.push(keys.subjectMark(subject, repository, digest, mark))
    for (const part of record.whole?.parts ?? []) {
      if (part.digest !== digest) relations.push(keys.parentMark(part.digest, repository, digest, mark))
      if (part.subject !== undefined) relations.push(keys.subjectMark(part.subject, repository, part.digest, mark))
    }
    for (const child of record.lacks ?? []) relations.push(keys.parentMark(child, repository, digest, mark))
  }
  if (!isPlain(record)) return [keys.nameMark(digest, name, mark), keys.idMark(record.id, digest, mark), ...relations]
  // Nobody looks for its name, but the name mark is the first of all marks.
  return name.tag !== undefined || relations.length > 0 ? [keys.artifactMark(digest, name, mark), ...relations] : []
}

function readMark(key: string): NameMark | undefined {
  const mark = parseNameMark(key)
  return mark && { key, ...mark }
}
