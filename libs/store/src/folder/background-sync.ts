import { spawn } from 'node:child_process'

/**
 * Makes commits durable against loss of power, at most `SYNC_DELAY_MS` after each: a sync of the whole file system starts then, in the background. An fsync for each
 * commit would make a load of 1 GB three times as long.
 *
 * The sync is coreutils' `sync -f` (syncfs(2)) in a process of its own: called from here it would stop the event loop for as long as the disk needs.
 */
export class BackgroundSync {
  #timer: NodeJS.Timeout | undefined
  #running: Promise<void> | undefined
  #again = false

  constructor(
    private readonly folder: string,
    private readonly sync: (folder: string) => Promise<void> = syncFileSystem,
  ) {}

  /** Something was committed. */
  committed(): void {
    if (this.#running) this.#again = true
    else this.#timer ??= setTimeout(() => this.#start(), SYNC_DELAY_MS).unref()
  }

  /** What was committed and has no sync yet gets it now. */
  close(): void {
    if (this.#timer || this.#again) void this.sync(this.folder).catch(() => undefined)
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#again = false
  }

  #start(): void {
    this.#timer = undefined
    // A failed sync is tried again with the next commit's: until then a loss of power may take what was committed.
    this.#running = this.sync(this.folder).catch(() => undefined).then(() => {
      this.#running = undefined
      if (this.#again) this.committed()
      this.#again = false
    })
  }
}

export const SYNC_DELAY_MS = 5_000

function syncFileSystem(folder: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn('sync', ['-f', folder], { stdio: 'ignore' })
    child.on('error', reject)
    child.on('exit', (code) => (code === 0 ? resolve() : reject(new Error(`sync -f ${folder} exited ${code ?? 'by a signal'}`))))
    child.unref()
  })
}
