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
import { basename, dirname } from 'node:path'
import {
  cloneFile,
  dataRanges,
  fchmodat,
  fchownat,
  lgetxattr,
  llistxattr,
  mkdirat,
  mknodat,
  symlinkat,
  syncfs,
  utimensat,
} from '@strata/linux'
import { copyData } from '../../layers/copy-data.js'
import { LinkTargets } from '../../layers/link-targets.js'
import { throwIfStopped } from '../../threads/stop.js'
import { FolderWalk } from '../../trees/folder-walk.js'
import { keepXattr } from '../../trees/keep-xattr.js'
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
  const parent = openFolder(dirname(request.to))
  const [from, to] = [openFolder(request.from), openFolder(request.to)]
  try {
    using links = new LinkTargets(parent, Buffer.from(basename(request.to)))
    new TreeCopy(from, to, links).run()
    links.end()
    if (request.isSynced) syncfs(to)
  } finally {
    for (const dirfd of [parent, from, to]) closeSync(dirfd)
  }
}

/** Both trees are walked depth first by descriptors: an entry costs the same at any depth. */
class TreeCopy {
  constructor(
    readonly from: number,
    readonly to: number,
    readonly links: LinkTargets,
  ) {}

  run(): void {
    using from = new FolderWalk(this.from)
    using to = new FolderWalk(this.to)
    /** By depth, the folders that are not copied yet. */
    const pending = [this.#contents(from.dirfd, to.dirfd)]
    for (;;) {
      const name = pending.at(-1)!.pop()
      if (name !== undefined) {
        from.down(name)
        to.down(name)
        pending.push(this.#contents(from.dirfd, to.dirfd))
        continue
      }
      // Last, because an entry that is made in a folder changes the folder's times.
      copyAttributes(fstatSync(from.dirfd, { bigint: true }), HERE, from.dirfd, to.dirfd)
      pending.pop()
      if (pending.length === 0) return
      from.up()
      to.up()
    }
  }

  /**
   * Copies the entries of a folder, its subfolders without their contents, and gives the names of
   * those.
   */
  #contents(from: number, to: number): Buffer[] {
    const folders: Buffer[] = []
    for (const { name } of namesIn(`/proc/self/fd/${from}`)) {
      throwIfStopped()
      const stats = lstatSync(below(from, name), { bigint: true })
      if (stats.isDirectory()) {
        mkdirat(to, name, 0o700)
        folders.push(name)
      } else this.#entry(stats, name, from, to)
    }
    return folders
  }

  #entry(stats: BigIntStats, name: Buffer, from: number, to: number): void {
    const inode = String(stats.ino)
    if (this.links.has(inode)) return this.links.link(inode, to, name)
    if (stats.isFile()) copyFile(below(from, name), below(to, name), Number(stats.size))
    else if (stats.isSymbolicLink()) symlinkat(readlinkSync(below(from, name), { encoding: 'buffer' }), to, name)
    else mknodat(to, name, (Number(stats.mode) & constants.S_IFMT) | 0o600, ...deviceOf(stats.rdev))
    copyAttributes(stats, name, from, to)
    if (stats.nlink > 1n) this.links.keep(inode, Number(stats.nlink) - 1, to, name)
  }
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
    if (value) keepXattr(below(to, name), attribute, value, () => name)
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
