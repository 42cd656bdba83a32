import { randomUUID } from 'node:crypto'
import { closeSync, openSync, readdirSync, realpathSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { hexOf, isDigest, parseChainId, type ChainId } from '@strata/oci'
import { flock, ownFolder } from '@strata/linux'
import type { SnapshotKey } from '../snapshot.js'

const ASK_EVERY_MS = 10

/** The folders of the bookkeeping. A driver may have more (`folders` in its row of `DRIVERS`). */
const FOLDERS = ['roots', 'mounts', 'snapshots', 'locks', 'tmp'] as const

/**
 * Where everything lies:
 * ```
 * <folder>/                    0700
 *   roots/<chain hex>/         a root; appears by one rename. The driver knows its content
 *     root.json                the driver's record of it
 *   mounts/<chain hex>/        where the driver makes the root readable
 *   snapshots/<key>/           a snapshot; appears by one rename
 *     snapshot.json            its record
 *     …                        what the driver made
 *   locks/<name>               flock while something is made or removed
 *   tmp/<random>/              all work in progress, and what is being deleted; flock on tmp itself:
 *                              shared by all processes that have the folder open
 *   <folder of a driver>/…     what several of its roots share
 * ```
 */
export class Layout {
  constructor(
    readonly path: string,
    /** Names of the driver's own folders. */
    readonly shared: readonly string[] = [],
  ) {}

  root(chainId: ChainId): string {
    return join(this.path, 'roots', hexOf(chainId))
  }
  rootRecord(chainId: ChainId): string {
    return join(this.root(chainId), 'root.json')
  }
  mountPoint(chainId: ChainId): string {
    return join(this.path, 'mounts', hexOf(chainId))
  }
  snapshot(key: SnapshotKey): string {
    return join(this.path, 'snapshots', key)
  }
  snapshotRecord(key: SnapshotKey): string {
    return join(this.snapshot(key), 'snapshot.json')
  }
  lock(name: string): string {
    return join(this.path, 'locks', name)
  }
  /** A new path in `tmp`. */
  fresh(): string {
    return join(this.path, 'tmp', randomUUID())
  }

  /** The chain ids that have a folder there. Other files in it are left alone. */
  chains(name: 'roots' | 'mounts'): ChainId[] {
    return chainsIn(join(this.path, name))
  }
  keys(): SnapshotKey[] {
    return readdirSync(join(this.path, 'snapshots')).sort() as SnapshotKey[]
  }
  /** Work in progress, and what dead processes left. */
  unfinished(): string[] {
    return this.#inside('tmp')
  }
  locks(): string[] {
    return this.#inside('locks')
  }
  /** Everything in the folders. Empty when all roots and snapshots were removed. */
  contents(): string[] {
    return [...FOLDERS, ...this.shared].flatMap((name) => this.#inside(name))
  }

  #inside(name: string): string[] {
    return readdirSync(join(this.path, name)).map((inside) => join(this.path, name, inside))
  }
}

/** Chain ids that have a folder in this one. */
export function chainsIn(path: string): ChainId[] {
  return readdirSync(path)
    .sort()
    .map((hex) => `sha256:${hex}`)
    .filter(isDigest)
    .map(parseChainId)
}

/** The layout of a folder that this process has open. */
export class SnapshotFolder extends Layout {
  readonly #tmpLock: number

  private constructor(path: string, shared: readonly string[]) {
    super(path, shared)
    this.#tmpLock = openSync(join(path, 'tmp'), 'r')
  }

  /**
   * Makes the folders that are missing. `first`: no other live process has the folder open, so
   * nothing in `tmp` has an owner.
   */
  static open(path: string, shared: readonly string[]): { folder: SnapshotFolder; first: boolean } {
    ownFolder(path)
    const real = realpathSync(path)
    for (const name of [...FOLDERS, ...shared]) ownFolder(join(real, name))
    const folder = new SnapshotFolder(real, shared)
    return { folder, first: flock(folder.#tmpLock, 'ex', { nonblock: true }) }
  }

  /**
   * Makes this process count as one that has the folder open, so that the next process is not the
   * first. Waits until the first process has swept. It polls and never blocks the thread: the sweep
   * may run on the same thread.
   */
  async share(): Promise<void> {
    while (!flock(this.#tmpLock, 'sh', { nonblock: true })) await setTimeout(ASK_EVERY_MS)
  }

  deleteLocks(): void {
    for (const path of this.locks()) rmSync(path, { recursive: true, force: true })
  }

  close(): void {
    closeSync(this.#tmpLock)
  }
}
