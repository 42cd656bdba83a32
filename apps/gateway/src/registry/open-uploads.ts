import { StrataError } from '@strata/base'
import type { Leases, UploadStatus } from '@strata/store'

/** How long the count stands before the store is asked again which uploads are over. */
const LOOK_AGAIN_MS = 1_000

/**
 * Counts the uploads that this gateway has begun. One that is finished or cancelled here is not
 * counted any more. Those that another gateway has ended, or that have expired, are found in the
 * store when there is no room left, by one list of all leases, and that at most once a second.
 *
 * Without a bound a client could begin any number of them, since that needs no body: each is a
 * record for as long as uploads are kept, which each sweep and each collection lists.
 */
export class OpenUploads {
  readonly #ids = new Set<string>()
  #beginning = 0
  #lookedAt = -Infinity

  constructor(
    private readonly leases: Pick<Leases, 'liveIds'>,
    private readonly most: number,
    private readonly now: () => number = () => performance.now(),
  ) {}

  /** @throws StrataError `overloaded` */
  async begin(begin: () => Promise<UploadStatus>): Promise<UploadStatus> {
    if (this.#isFull()) await this.#look()
    if (this.#isFull())
      throw new StrataError(
        'overloaded',
        `${this.most} uploads are open, as many as this gateway begins (STRATA_MAX_PUSH_UPLOADS): finish or cancel them, or wait until they expire`,
      )
    this.#beginning++
    try {
      const status = await begin()
      this.#ids.add(status.id)
      return status
    } finally {
      this.#beginning--
    }
  }

  /** An upload is over. It need not be one that this gateway has begun. */
  ended(id: string): void {
    this.#ids.delete(id)
  }

  #isFull(): boolean {
    return this.#ids.size + this.#beginning >= this.most
  }

  async #look(): Promise<void> {
    const now = this.now()
    if (now - this.#lookedAt < LOOK_AGAIN_MS) return
    this.#lookedAt = now
    // One that is begun meanwhile is in no list that was begun before.
    const before = [...this.#ids]
    const live = await this.leases.liveIds()
    for (const id of before) if (!live.has(id)) this.#ids.delete(id)
  }
}
