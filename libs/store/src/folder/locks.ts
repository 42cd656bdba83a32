import { createHash } from 'node:crypto'
import { closeSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { StrataError } from '@strata/base'
import { flock, openOwnFile, ownFolder } from '@strata/linux'

/**
 * Longer than any owner can need: its work is a few system calls, which a busy disk holds up for
 * seconds. Only one that was stopped inside them (SIGSTOP) can hold it so long.
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
   * Runs `work` alone among all who lock this key. It is a few system calls, with nothing else
   * awaited between them. A blocking flock would stop the whole event loop for as long as another
   * process is stopped with the lock in hand.
   */
  async exclusively<T>(key: string, work: () => T | Promise<T>): Promise<T> {
    const stripe = createHash('sha256').update(key).digest('hex').slice(0, 2)
    // Opened anew each time, some microseconds: kept open, every store of a process would come to
    // hold 256 descriptors.
    const fd = openOwnFile(join(this.folder, stripe))
    try {
      const start = performance.now()
      for (let wait = 0.5; !flock(fd, 'ex', { nonblock: true }); wait = Math.min(wait * 2, 20)) {
        if (performance.now() - start > PATIENCE_MS)
          throw new StrataError(
            'store_unavailable',
            `the store's lock for ${key} is held by another process for ${PATIENCE_MS / 1000} s`,
          )
        await delay(Math.random() * wait)
      }
      return await work()
    } finally {
      closeSync(fd)
    }
  }
}
