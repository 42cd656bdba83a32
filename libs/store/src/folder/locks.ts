import { createHash } from 'node:crypto'
import { closeSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { StrataError } from '@strata/base'
import { flock, openOwnFile, ownFolder } from '@strata/linux'

/**
 * No owner needs a lock for so long: its work is a few system calls, which a busy disk delays by
 * seconds. Only a process that was stopped during them (SIGSTOP) holds it longer.
 */
const PATIENCE_MS = 60_000

/**
 * Locks between processes (and threads) for keys: one of 256 files by the key's hash, so that their
 * number does not grow with the keys.
 */
export class StripedLocks {
  constructor(private readonly folder: string) {
    ownFolder(folder)
  }

  /**
   * Runs `work` while no other caller, in any process, holds the lock of this key. `work` must be a
   * few system calls, and await nothing else. The lock is polled: a blocking flock would stop the
   * whole event loop while another process is stopped with the lock held.
   */
  async exclusively<T>(key: string, work: () => T | Promise<T>): Promise<T> {
    const stripe = createHash('sha256').update(key).digest('hex').slice(0, 2)
    // The file is opened each time, which takes microseconds. Kept open, each store of a process
    // would soon hold 256 descriptors.
    const fd = openOwnFile(join(this.folder, stripe))
    try {
      const start = performance.now()
      for (let wait = 0.5; !flock(fd, 'ex', { nonblock: true }); wait = Math.min(wait * 2, 20)) {
        if (performance.now() - start > PATIENCE_MS)
          throw new StrataError(
            'store_unavailable',
            `the store's lock for ${key} has been held by another process for ${PATIENCE_MS / 1000} s: look for a Strata process that is stopped`,
          )
        await delay(Math.random() * wait)
      }
      return await work()
    } finally {
      closeSync(fd)
    }
  }
}
