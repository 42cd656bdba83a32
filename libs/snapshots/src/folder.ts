import { randomUUID } from 'node:crypto'
import { chmodSync, closeSync, openSync, readdirSync, realpathSync, rmSync, utimesSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { hexOf, isDigest, parseChainId, type ChainId } from '@strata/oci'
import { flock, ownFolder } from '@strata/linux'
import type { SnapshotKey } from './snapshot.js'

const ASK_EVERY_MS = 10

/**
 * Where everything of a driver lies:
 * ```
 * <folder>/                    0700
 *   roots/<chain hex>/         a root as the driver keeps it; appears by one rename
 *     root.json                what it is made of
 *     metadata.erofs, side     (erofs)
 *   layers/<chain hex>/        (overlay) the top layer of the chain; appears by one rename
 *     fs/                      unpacked
 *     unsynced                 the boot it was made in, until it is known to be on disk
 *   mounts/<chain hex>/        mount point of the root
 *   snapshots/<key>/           a snapshot; appears by one rename
 *     snapshot.json
 *     upper/ work/             (writable) overlayfs's
 *     lower/                   (view) empty; by this folder the mount table tells whose mount it is
 *   locks/<name>               flock while something is made or removed
 *   empty/1, empty/2           empty folders with the attributes of the root of no layers: overlayfs's lowest
 *   tmp/<random>/              all work in progress, and what is being removed; flock on tmp itself: shared by living drivers
 * ```
 */
export class SnapshotFolder {
  private constructor(
    readonly path: string,
    readonly tmpLock: number,
  ) {}

  /**
   * `first`: no other living driver works here, so what lies in `tmp` has no owner: it is removed.
   */
  static open(path: string): { folder: SnapshotFolder; first: boolean } {
    ownFolder(path)
    const real = realpathSync(path)
    for (const name of ['roots', 'layers', 'mounts', 'snapshots', 'locks', 'empty', 'tmp']) ownFolder(join(real, name))
    const folder = new SnapshotFolder(real, openSync(join(real, 'tmp'), 'r'))
    for (const empty of folder.empties) {
      ownFolder(empty, 0o755)
      chmodSync(empty, 0o755)
      utimesSync(empty, 0, 0)
    }
    return { folder, first: flock(folder.tmpLock, 'ex', { nonblock: true }) }
  }

  /**
   * From here on we live, and the next to come is not the first. Waits for the first to be done
   * with removing; never by blocking the thread, which may be its own.
   */
  async share(): Promise<void> {
    while (!flock(this.tmpLock, 'sh', { nonblock: true })) await setTimeout(ASK_EVERY_MS)
  }

  close(): void {
    closeSync(this.tmpLock)
  }

  get empties(): readonly string[] {
    return [join(this.path, 'empty', '1'), join(this.path, 'empty', '2')]
  }
  root(chainId: ChainId): string {
    return join(this.path, 'roots', hexOf(chainId))
  }
  rootRecord(chainId: ChainId): string {
    return join(this.root(chainId), 'root.json')
  }
  layer(chainId: ChainId): string {
    return join(this.path, 'layers', hexOf(chainId))
  }
  mountPoint(chainId: ChainId): string {
    return join(this.path, 'mounts', hexOf(chainId))
  }
  snapshot(key: SnapshotKey): string {
    return join(this.path, 'snapshots', key)
  }
  lock(name: string): string {
    return join(this.path, 'locks', name)
  }
  /** A name in `tmp` that nobody has. */
  fresh(): string {
    return join(this.path, 'tmp', randomUUID())
  }

  /** Chain ids that have a folder in there. What else somebody put there is left alone. */
  chains(kind: 'roots' | 'layers' | 'mounts'): ChainId[] {
    return readdirSync(join(this.path, kind))
      .sort()
      .map((hex) => `sha256:${hex}`)
      .filter(isDigest)
      .map(parseChainId)
  }
  keys(): SnapshotKey[] {
    return readdirSync(join(this.path, 'snapshots')).sort() as SnapshotKey[]
  }
  leftovers(): string[] {
    return readdirSync(join(this.path, 'tmp')).map((name) => join(this.path, 'tmp', name))
  }
  dropLocks(): void {
    for (const name of readdirSync(join(this.path, 'locks'))) rmSync(this.lock(name), { recursive: true, force: true })
  }
}
