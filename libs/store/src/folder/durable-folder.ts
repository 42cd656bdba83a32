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
  /** Names the kernel's run. */
  readonly boot?: string
}

/**
 * A folder in which files are committed without an fsync. They are synced in the background, at
 * most 5 s later, `<root>/synced` tells how far that has come, and the first process that opens the
 * folder in another boot looks at all that was committed later. Any number of processes of one
 * machine may have it open.
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
   * Makes the folder if need be. The first in a boot calls `mend` with the paths of files below
   * `prefixes` that may not have reached the disk in an earlier boot: relative to the root, in
   * order. Who comes meanwhile waits. It may die at any line: the mark is written last, so the next
   * one does it again.
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
      // What was mended is not on disk yet: until it is, the tail begins where it began.
      await this.#cover(tail.length > 0 ? Math.min(last?.syncedAt ?? 0, now) : now)()
      if (tail.length > 0) this.committed()
    } finally {
      closeSync(lock)
    }
  }

  /** Something was committed. */
  committed(): void {
    this.#background.committed()
  }

  /** Whether the file may have been synced as it is. */
  isOnDisk(path: string): boolean {
    const changed = statSync(path, { throwIfNoEntry: false })?.ctimeMs
    return changed !== undefined && changed <= (this.#mark.read()?.syncedAt ?? Infinity)
  }

  /** What has no sync yet gets it now; it is not waited for. */
  close(): void {
    this.#background.close()
  }

  /** What is no link would keep the next mark from its name. */
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
