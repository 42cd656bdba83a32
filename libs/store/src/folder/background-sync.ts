import { spawn } from 'node:child_process'

export interface SyncOptions {
  /** Makes a folder's whole file system durable; coreutils' `sync -f` if left out. */
  readonly sync?: (folder: string) => Promise<void>
  /**
   * Called when a sync starts; what it gives is called when that sync is done, and speaks of
   * nothing that came later.
   */
  readonly cover?: () => () => Promise<void>
  /** Told of a sync that failed, once until one succeeds. */
  readonly warn?: (message: string) => void
}

/**
 * Makes commits durable against loss of power: a sync of the whole file system starts in the
 * background at most `SYNC_DELAY_MS` after each of them, or when the one before is done. An fsync
 * for each commit would make a load of 1 GB three times as long. Where nothing was committed
 * nothing is synced.
 *
 * The sync is coreutils' `sync -f` (syncfs(2)) in a process of its own: called from here it would
 * stop the event loop for as long as the disk needs.
 */
export class BackgroundSync {
  #timer: NodeJS.Timeout | undefined
  #running = false
  /** When the first commit was made that no sync covers yet. */
  #since: number | undefined
  #failing = false
  #closed = false

  constructor(
    private readonly folder: string,
    private readonly options: SyncOptions = {},
  ) {}

  /** Something was committed. */
  committed(): void {
    this.#since ??= performance.now()
    if (this.#running || this.#timer || this.#closed) return
    this.#timer = setTimeout(
      () => void this.#run(),
      Math.max(0, this.#since + SYNC_DELAY_MS - performance.now()),
    ).unref()
  }

  /** What was committed and has no sync yet gets it now; it is not waited for. */
  close(): void {
    if (this.#since !== undefined) void this.#sync().catch(() => undefined)
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
      await this.#sync()
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

  /** For what came while a sync ran, and for one that failed: after the same delay. */
  #again(): void {
    if (this.#failing || this.#since !== undefined) this.committed()
  }

  #sync(): Promise<void> {
    return (this.options.sync ?? syncFileSystem)(this.folder)
  }
}

export const SYNC_DELAY_MS = 5_000

function syncFileSystem(folder: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn('sync', ['-f', folder], { stdio: 'ignore' })
    child.on('error', reject)
    child.on('exit', (code, signal) =>
      code === 0 ? resolve() : reject(new Error(`sync -f ${folder} ended with ${code ?? signal}`)),
    )
    child.unref()
  })
}
