/** A time: seconds since 1970, and nanoseconds behind them. */
export interface FileTime {
  readonly mtime: number
  readonly mtimeNanos: number
}

const EPOCH: FileTime = { mtime: 0, mtimeNanos: 0 }
/** 2^63 - 1 nanoseconds since 1970, in 2262: the engines write no later time (Go's `UnixNano`). */
const LAST: FileTime = { mtime: 9_223_372_036, mtimeNanos: 854_775_807 }

/**
 * The time that an entry with this time gets. docker, podman and containerd make one that is before
 * 1970 or behind `LAST` the beginning of 1970. Without that, EROFS would show it as it is, and the
 * other drivers the first or last time that the node's file system has.
 */
export function fileTime(mtime: number, mtimeNanos: number): FileTime {
  const isKept = mtime >= 0 && (mtime < LAST.mtime || (mtime === LAST.mtime && mtimeNanos <= LAST.mtimeNanos))
  return isKept ? { mtime, mtimeNanos } : EPOCH
}
