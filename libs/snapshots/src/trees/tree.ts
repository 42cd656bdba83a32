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

/**
 * A path that works however deep the folder lies that the descriptor is open on; names are bytes.
 */
export function below(dirfd: number, name: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from(`/proc/self/fd/${dirfd}/`), name])
}

export function openFolder(path: string | Buffer): number {
  return openSync(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW)
}

/** Its entries' names, read in pieces: a folder may hold millions. */
export function* namesIn(path: string | Buffer): Generator<{ readonly name: Buffer; readonly folder: boolean }> {
  // The types know only text here; names that are no UTF-8 would be lost.
  const dir: Dir = opendirSync(path, { encoding: 'buffer' as BufferEncoding, bufferSize: 1024 })
  try {
    for (let entry = dir.readSync(); entry; entry = dir.readSync())
      yield { name: entry.name as unknown as Buffer, folder: entry.isDirectory() }
  } finally {
    dir.closeSync()
  }
}

/**
 * Deletes the folder with all it holds, whatever its depth and names. Folders found on the way are
 * moved to `<aside>~<n>` first, so no path ever gets long. By default they lie beside the folder,
 * in `tmp` like itself, so that a crash leaves nothing elsewhere.
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

/** As many folders are open at once as a walk is deep. */
const MAX_DEPTH = 1024

export interface Visited {
  /** From the walk's root, without a leading slash; the root's is empty. */
  readonly path: Buffer
  /** Where it can be opened during the visit. */
  readonly at: Buffer
  readonly stats: Stats
}

/**
 * Calls back for the folder and everything in it, folders before their contents; no link is
 * followed, no mount is entered.
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

/** Disk blocks of all in the folder; of a file with several names once. */
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
