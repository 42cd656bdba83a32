import { bind, check, lastErrno, systemError } from '../libc.js'

const flockCall = bind('flock', ['int', 'int'])
const syncfsCall = bind('syncfs', ['int'])
const OPERATION = { sh: 1, ex: 2, un: 8 } as const
const LOCK_NB = 4
const EWOULDBLOCK = 11

/**
 * flock(2): the lock belongs to the open file, so two opens in one process exclude each other, and
 * the kernel frees it when the process dies. False = someone else holds it (only with `nonblock`;
 * without it the whole thread waits).
 */
export function flock(
  fd: number,
  operation: keyof typeof OPERATION,
  options: { readonly nonblock?: boolean } = {},
): boolean {
  if (flockCall(fd, OPERATION[operation] | (options.nonblock ? LOCK_NB : 0)) === 0) return true
  const errno = lastErrno()
  if (options.nonblock && errno === EWOULDBLOCK) return false
  throw systemError(errno, 'flock')
}

/**
 * Writes out everything of the file system that `fd` lies on; blocks the thread for as long as that
 * takes.
 */
export function syncfs(fd: number): void {
  check(syncfsCall(fd), 'syncfs')
}
