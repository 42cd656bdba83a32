import { closeSync, lstatSync, readdirSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { bootId, flock, openOwnFile, ownFolder, setAside } from '@strata/linux'
import { BackgroundSync } from './background-sync.js'
import { MARGIN_MS, SyncMarkFile } from './sync-mark.js'
import { namesBelow, walkKeys } from './walk.js'

const ASK_EVERY_MS = 20

export interface DurableFolderOptions {
  /** Makes a folder's whole file system durable; coreutils' `sync -f` if left out. */
  readonly sync?: (folder: string) => Promise<void>
  /**
   * Gets a sentence for what was lost with the power, and for a sync that fails; a process warning
   * if left out.
   */
  readonly warn?: (message: string) => void
  /** The id of the kernel's boot; the machine's own if left out. */
  readonly boot?: string
}

/**
 * A folder in which files are committed without an fsync. A background sync starts within 5 s.
 * `<root>/synced` records when the last successful sync started. The first process that opens the
 * folder after a reboot examines all files that were committed later. Any number of processes of
 * one machine may have it open.
 */
export class DurableFolder {
  readonly #mark: SyncMarkFile
  readonly #boot: string
  readonly #background: BackgroundSync
  readonly warn: (message: string) => void

  /** `recover` is to be called before anything else. */
  constructor(
    readonly root: string,
    options: DurableFolderOptions = {},
  ) {
    this.#mark = new SyncMarkFile(root)
    this.#boot = options.boot ?? bootId()
    this.warn = options.warn ?? ((message) => process.emitWarning(message))
    this.#background = new BackgroundSync(root, {
      ...(options.sync ? { sync: options.sync } : {}),
      warn: this.warn,
      cover: () => this.#cover(Date.now()),
    })
  }

  /**
   * Makes the folder if it is missing. The first process of a boot calls `mend` with the paths of
   * the files below `prefixes` that may not have reached the disk in an earlier boot: relative to
   * the root, in order. Other processes wait meanwhile. It may die at any line: the mark is written
   * last, so the next process does it again.
   */
  async recover(prefixes: readonly string[], mend: (tail: readonly string[]) => Promise<void>): Promise<void> {
    ownFolder(this.root)
    if (this.#mark.read()?.boot === this.#boot) return
    const lock = openOwnFile(join(this.root, 'synced.lock'))
    try {
      while (!flock(lock, 'ex', { nonblock: true })) await delay(ASK_EVERY_MS)
      const last = this.#mark.read()
      if (last?.boot === this.#boot) return
      for (const name of readdirSync(this.root))
        if (name.startsWith('synced.') && !name.startsWith('synced.lock'))
          rmSync(join(this.root, name), { recursive: true, force: true })
      this.#makeRoom()
      const tail = await this.#changedSince(last ? last.syncedAt - MARGIN_MS : -Infinity, prefixes)
      const now = Date.now()
      if (tail.length > 0) await mend(tail)
      // What `mend` wrote is not on disk yet. Until it is, the mark keeps its old time, so the next
      // boot examines the same files.
      await this.#cover(tail.length > 0 ? Math.min(last?.syncedAt ?? 0, now) : now)()
      if (tail.length > 0) this.committed()
    } finally {
      closeSync(lock)
    }
  }

  /** Must be called after each commit. */
  committed(): void {
    this.#background.committed()
  }

  /** Whether the file may have been synced as it is. */
  isOnDisk(path: string): boolean {
    const changed = statSync(path, { throwIfNoEntry: false })?.ctimeMs
    return changed !== undefined && changed <= (this.#mark.read()?.syncedAt ?? Infinity)
  }

  /** Starts a sync for the commits that have none yet, and does not wait for it. */
  close(): void {
    this.#background.close()
  }

  /** Sets aside what has the name of the mark and is no symbolic link. */
  #makeRoom(): void {
    const mark = join(this.root, 'synced')
    if (lstatSync(mark, { throwIfNoEntry: false })?.isSymbolicLink() === false)
      this.warn(`${mark} is not the link that it should be: it is kept as ${setAside(mark)}`)
  }

  #cover(syncedAt: number): () => Promise<void> {
    return () => this.#mark.write({ boot: this.#boot, syncedAt })
  }

  async #changedSince(time: number, prefixes: readonly string[]): Promise<string[]> {
    const paths: string[] = []
    const changed = (path: string) => statSync(join(this.root, path), { throwIfNoEntry: false })?.ctimeMs ?? -Infinity
    for (const prefix of prefixes)
      for await (const path of walkKeys(namesBelow(this.root), prefix, ''))
        if (!path.startsWith('synced') && changed(path) >= time) paths.push(path)
    return paths
  }
}
