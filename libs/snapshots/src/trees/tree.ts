import {
  closeSync,
  constants,
  lstatSync,
  opendirSync,
  openSync,
  renameSync,
  rmdirSync,
  unlinkSync,
  type Dir,
  type Stats,
} from 'node:fs'
import type { Usage } from '../snapshot.js'

/** A path to an entry of an open folder. It works at any depth. Names are bytes. */
export function below(dirfd: number, name: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from(`/proc/self/fd/${dirfd}/`), name])
}

/** Opens a folder; fails if the path's last part is a link. */
export function openFolder(path: string | Buffer): number {
  return openSync(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW)
}

/** The names of a folder's entries, read in pieces: a folder may hold millions. */
export function* namesIn(path: string | Buffer): Generator<{ readonly name: Buffer; readonly folder: boolean }> {
  // Node's types allow only text here. Names that are not UTF-8 would be lost.
  const dir: Dir = opendirSync(path, { encoding: 'buffer' as BufferEncoding, bufferSize: 1024 })
  try {
    for (let entry = dir.readSync(); entry; entry = dir.readSync())
      yield { name: entry.name as unknown as Buffer, folder: entry.isDirectory() }
  } finally {
    dir.closeSync()
  }
}

/**
 * Deletes the folder and everything in it, of any depth and names. A folder found on the way is
 * first moved to `<aside>~<n>`, so no path gets long. By default that is beside the folder, in
 * `tmp` like itself, so that a crash leaves nothing elsewhere.
 */
export function removeTree(folder: string | Buffer, aside: string = folder.toString()): undefined {
  const pending = [folder]
  let moved = 0
  for (let at = pending.pop(); at !== undefined; at = pending.pop()) {
    const dirfd = openFolder(at)
    try {
      for (const { name, folder: isFolder } of namesIn(`/proc/self/fd/${dirfd}`)) {
        if (!isFolder) unlinkSync(below(dirfd, name))
        else {
          const place = `${aside}~${moved++}`
          renameSync(below(dirfd, name), place)
          pending.push(place)
        }
      }
    } finally {
      closeSync(dirfd)
    }
    rmdirSync(at)
  }
  return undefined
}

/** A walk goes no deeper: each level keeps a folder open. */
const MAX_DEPTH = 1024

/** What `walkTree` passes for each entry. */
export interface Visited {
  /** From the root of the walk, without a leading slash; empty for the root itself. */
  readonly path: Buffer
  /** A path at which it can be opened during the visit. */
  readonly at: Buffer
  readonly stats: Stats
}

/**
 * Calls `visit` for the folder and everything in it, folders before their contents. Follows no link
 * and enters no mount. Goes at most `MAX_DEPTH` folders deep.
 */
export function walkTree(folder: string, visit: (visited: Visited) => void): void {
  const root = lstatSync(folder)
  visit({ path: Buffer.alloc(0), at: Buffer.from(folder), stats: root })
  const inside = (dirfd: number, above: Buffer, depth: number): void => {
    for (const { name } of namesIn(`/proc/self/fd/${dirfd}`)) {
      const at = below(dirfd, name)
      const path = depth === 0 ? name : Buffer.concat([above, Buffer.from('/'), name])
      const stats = lstatSync(at)
      visit({ path, at, stats })
      if (!stats.isDirectory() || stats.dev !== root.dev || depth + 1 >= MAX_DEPTH) continue
      const fd = openFolder(at)
      try {
        inside(fd, path, depth + 1)
      } finally {
        closeSync(fd)
      }
    }
  }
  const fd = openFolder(folder)
  try {
    inside(fd, Buffer.alloc(0), 0)
  } finally {
    closeSync(fd)
  }
}

/** The disk blocks of everything in the folder. A file with several names counts once. */
export function treeUsage(folder: string): Usage {
  const linked = new Set<number>()
  let bytes = 0
  let inodes = 0
  walkTree(folder, ({ stats }) => {
    if (stats.nlink > 1 && !stats.isDirectory()) {
      if (linked.has(stats.ino)) return
      linked.add(stats.ino)
    }
    bytes += stats.blocks * 512
    inodes++
  })
  return { bytes, inodes }
}
