import { sharedSync, syncFileSystem } from './file-system-sync.js'

export interface SyncOptions {
  /** Makes a folder's whole file system durable; coreutils' `sync -f` if left out. */
  readonly sync?: (folder: string) => Promise<void>
  /**
   * Called when a sync starts. The function that it returns is called when that sync has succeeded.
   * It may rely only on what was committed before the start.
   */
  readonly cover?: () => () => Promise<void>
  /** Gets a sentence when a sync fails; the next one only after a sync has succeeded. */
  readonly warn?: (message: string) => void
}

/**
 * Makes commits durable against loss of power. At most `SYNC_DELAY_MS` after a commit, or when the
 * sync before is done, a sync of the whole file system starts in the background. (An fsync for each
 * commit would make a load of 1 GB three times as long.) Without a commit there is no sync.
 *
 * A process has several such folders, mostly on one file system. They share the syncs of it.
 */
export class BackgroundSync {
  #timer: NodeJS.Timeout | undefined
  #running = false
  /** The time of the first commit that no sync covers yet. */
  #since: number | undefined
  #failing = false
  #closed = false

  constructor(
    private readonly folder: string,
    private readonly options: SyncOptions = {},
  ) {}

  /** Must be called after each commit. */
  committed(): void {
    this.#since ??= performance.now()
    if (this.#running || this.#timer || this.#closed) return
    this.#timer = setTimeout(
      () => void this.#run(),
      Math.max(0, this.#since + SYNC_DELAY_MS - performance.now()),
    ).unref()
  }

  /** Starts a sync for the commits that have none yet, and does not wait for it. */
  close(): void {
    // In no turn: the process may end before one comes.
    if (this.#since !== undefined) void this.#sync(syncFileSystem).catch(() => undefined)
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#since = undefined
    this.#closed = true
  }

  async #run(): Promise<void> {
    this.#timer = undefined
    this.#since = undefined
    this.#running = true
    const done = this.options.cover?.()
    try {
      await this.#sync(sharedSync)
      await done?.()
      this.#failing = false
    } catch (error) {
      if (!this.#failing && !this.#closed)
        this.options.warn?.(`what was committed is not safe from a loss of power yet: ${(error as Error).message}`)
      this.#failing = true
    }
    this.#running = false
    this.#again()
  }

  /**
   * Starts another sync, after the same delay, for commits that came while one ran, and after one
   * that failed.
   */
  #again(): void {
    if (this.#failing || this.#since !== undefined) this.committed()
  }

  #sync(ofFileSystem: (folder: string) => Promise<void>): Promise<void> {
    return (this.options.sync ?? ofFileSystem)(this.folder)
  }
}

export const SYNC_DELAY_MS = 5_000
