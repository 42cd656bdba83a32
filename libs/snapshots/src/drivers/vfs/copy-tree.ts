import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  lstatSync,
  mkdirSync,
  openSync,
  readlinkSync,
  type BigIntStats,
} from 'node:fs'
import {
  cloneFile,
  dataRanges,
  fchmodat,
  fchownat,
  lgetxattr,
  linkat,
  llistxattr,
  lsetxattr,
  mkdirat,
  mknodat,
  openat2,
  RESOLVE_BENEATH,
  RESOLVE_NO_SYMLINKS,
  symlinkat,
  syncfs,
  utimensat,
} from '@strata/linux'
import { copyData } from '../../layers/copy-data.js'
import { throwIfStopped } from '../../threads/stop.js'
import { below, namesIn, openFolder } from '../../trees/tree.js'

const HERE = Buffer.from('.')
const SECOND = 1_000_000_000n

/**
 * Copies a tree with everything that an image can say of it: owners, modes, times to the
 * nanosecond, extended attributes, devices, holes, and which names are one file. Files share their
 * blocks if the file system can do that (FICLONE). `isSynced`: the copy is on disk when this
 * returns.
 */
export function copyTree(request: { readonly from: string; readonly to: string; readonly isSynced: boolean }): void {
  mkdirSync(request.to, { mode: 0o700 })
  const [from, to] = [openFolder(request.from), openFolder(request.to)]
  try {
    new TreeCopy(from, to).run()
    if (request.isSynced) syncfs(to)
  } finally {
    closeSync(from)
    closeSync(to)
  }
}

/** Folders are opened by their path below the roots, and the kernel follows no link on the way. */
class TreeCopy {
  /** Paths of folders, parents first. */
  readonly #folders: Buffer[] = [HERE]
  /** The first name of each file that has several. */
  readonly #linked = new Map<bigint, { readonly folder: Buffer; readonly name: Buffer }>()

  constructor(
    readonly from: number,
    readonly to: number,
  ) {}

  run(): void {
    for (const folder of this.#folders)
      this.#inBoth(folder, (from, to) => {
        for (const { name } of namesIn(`/proc/self/fd/${from}`)) this.#entry(folder, name, from, to)
      })
    // Last, because an entry that is made in a folder changes the folder's times.
    for (const folder of this.#folders)
      this.#inBoth(folder, (from, to) => copyAttributes(fstatSync(from, { bigint: true }), HERE, from, to))
  }

  #inBoth(folder: Buffer, work: (from: number, to: number) => void): void {
    const from = open(this.from, folder)
    try {
      const to = open(this.to, folder)
      try {
        work(from, to)
      } finally {
        closeSync(to)
      }
    } finally {
      closeSync(from)
    }
  }

  #entry(folder: Buffer, name: Buffer, from: number, to: number): void {
    throwIfStopped()
    const stats = lstatSync(below(from, name), { bigint: true })
    if (stats.isDirectory()) {
      mkdirat(to, name, 0o700)
      this.#folders.push(folder === HERE ? name : Buffer.concat([folder, Buffer.from('/'), name]))
      return
    }
    const first = this.#linked.get(stats.ino)
    if (first) return this.#link(first, name, to)
    if (stats.nlink > 1n) this.#linked.set(stats.ino, { folder, name })
    if (stats.isFile()) copyFile(below(from, name), below(to, name), Number(stats.size))
    else if (stats.isSymbolicLink()) symlinkat(readlinkSync(below(from, name), { encoding: 'buffer' }), to, name)
    else mknodat(to, name, (Number(stats.mode) & constants.S_IFMT) | 0o600, ...deviceOf(stats.rdev))
    copyAttributes(stats, name, from, to)
  }

  #link(first: { readonly folder: Buffer; readonly name: Buffer }, name: Buffer, to: number): void {
    const folder = open(this.to, first.folder)
    try {
      linkat(folder, first.name, to, name)
    } finally {
      closeSync(folder)
    }
  }
}

function open(root: number, folder: Buffer): number {
  return openat2(root, folder, constants.O_RDONLY | constants.O_DIRECTORY, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
}

function copyFile(from: Buffer, to: Buffer, size: number): void {
  const source = openSync(from, constants.O_RDONLY | constants.O_NOFOLLOW)
  try {
    const copy = openSync(to, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, 0o600)
    try {
      if (size === 0 || cloneFile(source, copy)) return
      ftruncateSync(copy, size)
      for (const { offset, length } of dataRanges(source)) copyData(source, offset, copy, offset, length)
    } finally {
      closeSync(copy)
    }
  } finally {
    closeSync(source)
  }
}

/**
 * Owner first: a change of owner clears set-user-id bits and file capabilities. Times last: every
 * other change sets them.
 */
function copyAttributes(stats: BigIntStats, name: Buffer, from: number, to: number): void {
  fchownat(to, name, Number(stats.uid), Number(stats.gid))
  if (!stats.isSymbolicLink()) fchmodat(to, name, Number(stats.mode) & 0o7777)
  for (const attribute of llistxattr(below(from, name))) {
    const value = lgetxattr(below(from, name), attribute)
    if (value) lsetxattr(below(to, name), attribute, value)
  }
  const nanos = ((stats.mtimeNs % SECOND) + SECOND) % SECOND
  utimensat(to, name, Number((stats.mtimeNs - nanos) / SECOND), Number(nanos))
}

/** The kernel's encoding in st_rdev, 64 bits (sysmacros.h). */
function deviceOf(rdev: bigint): [major: number, minor: number] {
  const major = ((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & ~0xfffn)
  const minor = (rdev & 0xffn) | ((rdev >> 12n) & ~0xffn)
  return [Number(major), Number(minor & 0xffffffffn)]
}
