import { closeSync, fstatSync, unlinkSync } from 'node:fs'
import { setTimeout } from 'node:timers/promises'
import { flock, openOwnFile } from '@strata/linux'
import { StrataError } from '@strata/base'

/**
 * Another process holds it for as long as unpacking an image takes; asking costs two system calls.
 */
const ASK_EVERY_MS = 10

/**
 * Runs the work while holding the lock files, taken in the order given (callers agree on one order,
 * so none waits in a circle). The lock is the file's, not the process's: it also keeps two callers
 * in one process apart. The files are gone afterwards.
 */
export async function withLocks<T>(paths: readonly string[], work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
  const release: (() => void)[] = []
  try {
    for (const path of paths) {
      const before = lastInLine.get(path)
      const turn = Promise.withResolvers<undefined>()
      lastInLine.set(path, turn.promise)
      release.push(() => {
        if (lastInLine.get(path) === turn.promise) lastInLine.delete(path)
        turn.resolve(undefined)
      })
      await before
      const fd = await take(path, signal)
      release.push(() => {
        unlinkSync(path)
        closeSync(fd)
      })
    }
    return await work()
  } finally {
    for (const free of release.reverse()) free()
  }
}

/**
 * The last of those in this process that wait for a lock: they take turns at once and need not ask
 * the kernel again and again.
 */
const lastInLine = new Map<string, Promise<undefined>>()

async function take(path: string, signal: AbortSignal | undefined): Promise<number> {
  for (;;) {
    if (signal?.aborted)
      throw new StrataError('cancelled', 'cancelled while waiting for another to finish with the same layers')
    const fd = openOwnFile(path)
    // Its last holder may have removed the file between our opening and locking it: then the lock
    // is one of nothing.
    if (flock(fd, 'ex', { nonblock: true })) {
      if (fstatSync(fd).nlink > 0) return fd
      closeSync(fd)
      continue
    }
    closeSync(fd)
    await setTimeout(ASK_EVERY_MS)
  }
}
