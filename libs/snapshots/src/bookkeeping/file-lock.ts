import { closeSync, fstatSync, unlinkSync } from 'node:fs'
import { setTimeout } from 'node:timers/promises'
import { flock, openOwnFile } from '@strata/linux'
import { SerialByKey, StrataError } from '@strata/base'

/**
 * The lock is tried at this interval: another process may hold it for as long as an image takes to
 * unpack, and a try costs two system calls.
 */
const ASK_EVERY_MS = 10

/**
 * Runs the work while holding the locks on these files, taken in the order given. All callers use
 * one order, so they cannot wait for each other in a circle. A lock belongs to the open file, not
 * to the process: so it also separates two callers in one process. The files are deleted
 * afterwards.
 */
export function withLocks<T>(paths: readonly string[], work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
  const [path, ...others] = paths
  if (path === undefined) return work()
  return lines.run(path, () => withLock(path, () => withLocks(others, work, signal), signal))
}

/**
 * The callers in this process, by lock. They wait for each other's turn, and only the first one
 * tries the kernel's lock again and again.
 */
const lines = new SerialByKey<string>()

async function withLock<T>(path: string, work: () => Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  const fd = await take(path, signal)
  try {
    return await work()
  } finally {
    unlinkSync(path)
    closeSync(fd)
  }
}

async function take(path: string, signal: AbortSignal | undefined): Promise<number> {
  for (;;) {
    if (signal?.aborted) throw new StrataError('cancelled', 'cancelled while waiting for other work on the same layers')
    const fd = openOwnFile(path)
    // The last holder may have deleted the file between our open and our lock. Then the lock is on
    // a file without a name, which keeps nobody out.
    if (flock(fd, 'ex', { nonblock: true })) {
      if (fstatSync(fd).nlink > 0) return fd
      closeSync(fd)
      continue
    }
    closeSync(fd)
    await setTimeout(ASK_EVERY_MS)
  }
}
