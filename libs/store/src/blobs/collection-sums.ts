export interface Tally {
  readonly count: number
  /** Sizes of objects, not of blocks on a disk. */
  readonly bytes: number
}

/** What a collection has deleted from the store; for a dry run, what it would delete. */
export interface StoreCollection {
  /** Blobs that nothing refers to and no lease holds: their data. */
  readonly blobs: Tally
  /** Objects below `data/` that no blob's record names. */
  readonly data: Tally
  /** Layers' indexes that no blob's record names, and checkpoints of blobs that are gone. */
  readonly indexes: Tally
  /** Records that ended or got shorter, and by how much. */
  readonly records: Tally
  /**
   * Writes that were not finished, on stores that keep them (S3's multipart uploads). They are no
   * objects.
   */
  readonly partialUploads: Tally
  /**
   * Objects that the store did not delete now: MinIO deletes none that it is sending. The next
   * collection counts them as `data`.
   */
  readonly undeleted: Tally
  /** What went, but the partial uploads: the store's objects are smaller by exactly this. */
  readonly bytes: number
  /**
   * Of these bytes, those of files that have another name (a node's layer): on disk until that goes
   * too.
   */
  readonly linked: number
  /** Tombstones that stand in the store afterwards. */
  readonly tombstones: Tally
}

/** Whose bytes are those of objects that are gone. */
const GONE = ['blobs', 'data', 'indexes', 'records'] as const
const KINDS = [...GONE, 'partialUploads', 'undeleted'] as const
type Kind = (typeof KINDS)[number]

/** Adds up what one collection deletes. */
export class Sums {
  readonly #tallies = Object.fromEntries(KINDS.map((kind) => [kind, { count: 0, bytes: 0 }])) as Record<
    Kind,
    { count: number; bytes: number }
  >
  #linked = 0

  add(kind: Kind, bytes: number, linked = 0): void {
    this.#tallies[kind].count++
    this.#tallies[kind].bytes += bytes
    this.#linked += linked
  }

  report(tombstones: Tally): StoreCollection {
    const bytes = GONE.reduce((sum, kind) => sum + this.#tallies[kind].bytes, 0)
    return { ...this.#tallies, bytes, linked: this.#linked, tombstones }
  }
}
