import { randomBytes } from 'node:crypto'
import {
  closeSync,
  constants,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
} from 'node:fs'
import { basename, dirname, join } from 'node:path'

/**
 * Files that a service keeps for itself and reads again when it starts. A loss of power, a failing
 * disk or a person may have left anything in their place: no bytes, garbage, a folder, a link.
 * Where a service can go on without the file, that must not keep it from starting; where it cannot,
 * it says in one sentence which file it is and what to do.
 */

/**
 * What lies at `path` is not what we put there. Never thrown for a fault of the moment (EACCES,
 * EMFILE).
 */
export class UnusableFile extends Error {
  override readonly name = 'UnusableFile'
  readonly code = 'EUNUSABLE'
  /** @param why goes on from the path: `is a folder` */
  constructor(
    readonly path: string,
    readonly why: string,
    remedy = '',
  ) {
    super(`${path} ${why}${remedy}`)
  }
}

/** How many unusable ones are kept of one name: evidence, not an archive. */
const MOST_ASIDE = 4
/** Of this process: several may be set aside within a millisecond. */
let setAsideCount = 0

/**
 * The JSON of a regular file of at most `maxBytes`; undefined if there is none.
 * @throws UnusableFile
 */
export function readOwnJson(path: string, maxBytes: number): unknown {
  let fd: number
  try {
    // A link is not followed, and a pipe is not waited for: we made neither.
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined
    if (hasCode(error, 'ELOOP')) throw new UnusableFile(path, 'is a symbolic link')
    if (hasCode(error, 'ENOTDIR')) throw new UnusableFile(path, 'lies below what is not a folder')
    throw error
  }
  try {
    const stat = fstatSync(fd)
    if (!stat.isFile()) throw new UnusableFile(path, stat.isDirectory() ? 'is a folder' : 'is not a regular file')
    if (stat.size === 0) throw new UnusableFile(path, 'is empty')
    if (stat.size > maxBytes)
      throw new UnusableFile(path, `has ${stat.size} bytes, more than the ${maxBytes} that are read`)
    return JSON.parse(readFileSync(fd, 'utf8')) as unknown
  } catch (error) {
    if (error instanceof SyntaxError) throw new UnusableFile(path, 'is not JSON')
    if (hasCode(error, 'EIO')) throw new UnusableFile(path, 'cannot be read from its disk')
    throw error
  } finally {
    closeSync(fd)
  }
}

/**
 * Renames what lies there to `<path>.unreadable-<time>-<count>-<random>`, and answers that. The
 * newest four of a name are kept.
 *
 * The name is new even where several processes set the same path aside within a millisecond: a
 * rename would replace what another one kept.
 */
export function setAside(path: string): string {
  const prefix = `${basename(path)}.unreadable-`
  const count = String(setAsideCount++).padStart(6, '0')
  const aside = join(dirname(path), `${prefix}${Date.now()}-${count}-${randomBytes(4).toString('hex')}`)
  renameSync(path, aside)
  const all = readdirSync(dirname(path))
    .filter((name) => name.startsWith(prefix))
    .sort()
  for (const name of all.slice(0, Math.max(0, all.length - MOST_ASIDE)))
    rmSync(join(dirname(path), name), { recursive: true, force: true })
  return aside
}

/**
 * A folder that a service keeps things in, made if it is missing. A link to one is fine: people
 * move data so.
 * @throws UnusableFile
 */
export function ownFolder(path: string, mode = 0o700): void {
  try {
    mkdirSync(path, { recursive: true, mode })
  } catch (error) {
    if (hasCode(error, 'EEXIST', 'ENOTDIR'))
      throw new UnusableFile(
        path,
        'is not a folder, or lies below what is none',
        ': move that away, or put the folder back that was there',
      )
    throw error
  }
}

/**
 * Opens a file of ours to read and write, made if it is missing; what is no regular file there is
 * set aside. For what may be lost: locks, logs.
 */
export function openOwnFile(path: string, flags = 0, mode = 0o600): number {
  for (;;) {
    let fd: number
    try {
      fd = openSync(
        path,
        constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW | constants.O_NONBLOCK | flags,
        mode,
      )
    } catch (error) {
      if (!hasCode(error, 'EISDIR', 'ELOOP', 'ENXIO')) throw error
      setAside(path)
      continue
    }
    if (fstatSync(fd).isFile()) return fd
    closeSync(fd)
    setAside(path)
  }
}

function hasCode(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && 'code' in error && codes.includes(String(error.code))
}
