import { closeSync } from 'node:fs'
import { join } from 'node:path'
import { StrataError } from '@strata/base'
import { flock, makePrivateMount, MNT_DETACH, mountAt, mountTable, openOwnFile, umount } from '@strata/linux'
import { clearProbes } from '@strata/snapshots'

/** Of the node's folder: where the runtime mounts roots, containers and images. */
const NAMES = ['snapshots', 'roots', 'mounts'] as const

const LOCK = 'mounts.lock'

/**
 * The folders that a node mounts things in. Each is a private mount of its own, and not the node's
 * folder as a whole: no hard link leads into another mount, so every layer would be copied from the
 * store instead of linked.
 *
 * Law: they end with their process, however far its start came, unless something is mounted in
 * them, which a container needs. After a crash the next start takes over what is there. One process
 * at a time has them: a second one could take away what the first has just made, or mount over it.
 */
export class PrivateMounts implements Disposable {
  /** As the mount table knows them: the node's folder may be given by a link. */
  readonly #paths: string[] = []
  #lock: number | undefined
  readonly #onExit = (): void => this[Symbol.dispose]()

  /** @throws StrataError `driver_unavailable` if another process has them */
  constructor(private readonly folder: string) {
    const lock = openOwnFile(join(folder, LOCK))
    if (!flock(lock, 'ex', { nonblock: true })) {
      closeSync(lock)
      throw new StrataError('driver_unavailable', `another process serves the node in ${folder}`)
    }
    this.#lock = lock
    // A start that waits for Redis or a store is left as it is when its time to end is over.
    process.once('exit', this.#onExit)
    try {
      for (const name of NAMES) this.#paths.push(makePrivateMount(join(folder, name)))
    } catch (error) {
      this[Symbol.dispose]()
      throw error
    }
  }

  /** Doing it twice is the same as once. */
  [Symbol.dispose](): void {
    process.off('exit', this.#onExit)
    if (this.#lock === undefined) return
    try {
      // A start may end while it looks which driver works.
      clearProbes(join(this.folder, 'snapshots'))
    } finally {
      this.#unmount()
      closeSync(this.#lock)
      this.#lock = undefined
    }
  }

  #unmount(): void {
    const table = mountTable()
    for (const path of this.#paths.splice(0)) {
      if (!mountAt(path, table) || table.some(({ mountPoint }) => mountPoint.startsWith(`${path}/`))) continue
      // Detached: the last sync may still have it open, in a process of its own.
      umount(path, MNT_DETACH)
    }
  }
}
