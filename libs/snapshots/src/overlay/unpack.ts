import { closeSync, constants, ftruncateSync, mkdirSync, openSync } from 'node:fs'
import {
  fchmodat,
  fchownat,
  linkat,
  lsetxattr,
  mkdirat,
  mkfifoat,
  mknodat,
  openat2,
  RESOLVE_BENEATH,
  RESOLVE_NO_SYMLINKS,
  symlinkat,
  utimensat,
} from '@strata/linux'
import { ACTION, KIND, TreeMerger, typeBits, type LayerDelta, type LayerIndex } from '@strata/layers'
import { copyData } from '../copy-data.js'
import { withLayers, type OpenLayer } from '../layer-files.js'
import type { LayerFiles } from '../snapshotter.js'
import { throwIfStopped } from '../stop.js'
import { below } from '../tree.js'

/**
 * Unpacks those layers of the stack that are missing, each into a new folder. All are merged, since
 * a layer may link into those below it.
 */
export function unpackLayers(
  layers: readonly LayerFiles[],
  missing: readonly { readonly place: number; readonly folder: string }[],
): undefined {
  withLayers(layers, (open) => {
    const folders = new Map(missing.map(({ place, folder }) => [place, folder]))
    const merger = new TreeMerger()
    open.forEach(({ index }, place) => {
      const delta = merger.apply(index)
      const folder = folders.get(place)
      if (folder === undefined) return
      mkdirSync(folder, { mode: 0o700 })
      const root = openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY)
      try {
        new Unpacking(delta, open, root).run()
      } finally {
        closeSync(root)
      }
    })
  })
  return undefined
}

const OPAQUE = [Buffer.from('trusted.overlay.opaque'), Buffer.from('y')] as const

/**
 * One layer becoming a folder in overlayfs's form (Documentation/filesystems/overlayfs.rst): a
 * whiteout is a character device 0/0, an opaque folder says so in an extended attribute.
 *
 * Each folder is opened once by its whole path below the root, the kernel refusing any symbolic
 * link on the way, and entries are made by name in it: no path gets too long, and nothing that a
 * layer brings is followed.
 */
class Unpacking {
  readonly #index: LayerIndex

  constructor(
    readonly delta: LayerDelta,
    readonly layers: readonly OpenLayer[],
    readonly root: number,
  ) {
    this.#index = delta.index
  }

  run(): void {
    this.#eachFolder(
      () => true,
      (folder, dirfd) => {
        for (let entry = this.#index.firstChild(folder); entry < this.#index.firstChild(folder + 1); entry++)
          this.#make(entry, dirfd)
      },
    )
    // Folders get their attributes when nothing is made in them any more: making would change their
    // times.
    const isFolder = (entry: number): boolean => this.delta.action(entry) === ACTION.directory
    this.#eachFolder(isFolder, (folder, dirfd) => {
      for (let entry = this.#index.firstChild(folder); entry < this.#index.firstChild(folder + 1); entry++) {
        if (isFolder(entry)) this.#attributes(entry, dirfd, this.#index.name(entry))
      }
    })
    this.#attributes(0, this.root, Buffer.from('.'))
  }

  /** The folders that hold an entry of the kind, from above to below. */
  #eachFolder(wanted: (entry: number) => boolean, work: (folder: number, dirfd: number) => void): void {
    const index = this.#index
    for (let folder = 0; folder < index.count; folder++) {
      const end = index.firstChild(folder + 1)
      let first = index.firstChild(folder)
      while (first < end && !wanted(first)) first++
      if (first === end) continue
      const dirfd = this.#open(folder)
      try {
        work(folder, dirfd)
      } finally {
        closeSync(dirfd)
      }
    }
  }

  #open(folder: number): number {
    const path = folder === 0 ? '.' : this.#index.path(folder)
    return openat2(this.root, path, constants.O_RDONLY | constants.O_DIRECTORY, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
  }

  #make(entry: number, dirfd: number): void {
    throwIfStopped()
    const name = this.#index.name(entry)
    switch (this.delta.action(entry)) {
      case ACTION.none:
        return
      case ACTION.directory:
        return mkdirat(dirfd, name, 0o700)
      case ACTION.whiteout:
        return mknodat(dirfd, name, typeBits(KIND.char), 0, 0)
      case ACTION.link:
        return this.#link(entry, dirfd, name)
      case ACTION.node:
        this.#node(entry, dirfd, name)
        this.#attributes(entry, dirfd, name)
    }
  }

  #link(entry: number, dirfd: number, name: Buffer): void {
    const target = this.delta.linkTo(entry)
    const folder = this.#open(this.#index.parent(target))
    try {
      linkat(folder, this.#index.name(target), dirfd, name)
    } finally {
      closeSync(folder)
    }
  }

  #node(entry: number, dirfd: number, name: Buffer): void {
    const { tar, index } = this.layers[this.delta.sourceLayer(entry)]!
    const source = this.delta.sourceEntry(entry)
    const kind = index.kind(source)
    switch (kind) {
      case KIND.file:
        return this.#file(index, source, tar, below(dirfd, name))
      case KIND.symlink:
        return symlinkat(index.text(source), dirfd, name)
      case KIND.fifo:
        return mkfifoat(dirfd, name, 0o600)
      case KIND.char:
      case KIND.block:
        return mknodat(dirfd, name, typeBits(kind) | 0o600, index.major(source), index.minor(source))
      default:
        throw new Error(`an entry of kind ${kind} is no source of an inode`)
    }
  }

  #file(index: LayerIndex, source: number, tar: number, path: Buffer): void {
    const fd = openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, 0o600)
    try {
      const ranges = index.sparse(source)
      if (!ranges) return copyData(tar, index.dataOffset(source), fd, 0, index.size(source))
      ftruncateSync(fd, index.size(source))
      for (const { offset, size, dataOffset } of ranges) copyData(tar, dataOffset, fd, offset, size)
    } finally {
      closeSync(fd)
    }
  }

  #attributes(entry: number, dirfd: number, name: Buffer): void {
    const { index } = this.layers[this.delta.sourceLayer(entry)]!
    const source = this.delta.sourceEntry(entry)
    // Owner first: it clears set-user-id bits and file capabilities. Time last: all else is a
    // change.
    fchownat(dirfd, name, index.uid(source), index.gid(source))
    if (index.kind(source) !== KIND.symlink) fchmodat(dirfd, name, index.mode(source))
    const path = below(dirfd, name)
    for (const [key, value] of index.xattrs(source)) lsetxattr(path, key, value)
    if (this.delta.opaque(entry)) lsetxattr(path, ...OPAQUE)
    utimensat(dirfd, name, index.mtime(source), index.mtimeNanos(source))
  }
}
