import { closeSync, constants, ftruncateSync, openSync } from 'node:fs'
import { basename, dirname } from 'node:path'
import {
  fchmodat,
  fchownat,
  linkat,
  lsetxattr,
  mkfifoat,
  mknodat,
  openat2,
  RESOLVE_BENEATH,
  RESOLVE_NO_SYMLINKS,
  symlinkat,
  utimensat,
} from '@strata/linux'
import { ACTION, KIND, TreeMerger, typeBits, type LayerDelta, type LayerIndex } from '@strata/layers'
import type { LayerFiles } from '../snapshotter.js'
import { throwIfStopped } from '../threads/stop.js'
import { below, openFolder } from '../trees/tree.js'
import { copyData } from './copy-data.js'
import { withLayers, type OpenLayer } from './layer-files.js'

/**
 * How a layer is applied to a folder. Overlayfs has a folder for each layer, and whiteouts in it
 * hide what lies below (overlay/whiteouts.ts). A folder that has the whole tree is changed in place
 * (in-place.ts).
 *
 * A name is always one entry of an open directory, so no method can leave the folder.
 */
export interface LayerForm {
  /**
   * Makes the directory of this layer at this name, or keeps the one that the layers below made
   * there.
   */
  directory(dirfd: number, name: Buffer): void
  /**
   * Hides everything that the layers below have in this directory. Called when the directory is
   * made.
   */
  opaque(dirfd: number, name: Buffer): void
  /** Frees this name. Called before an entry that is no directory is made there. */
  makeWay(dirfd: number, name: Buffer): void
  /** Hides what the layers below have at this name. */
  whiteout(dirfd: number, name: Buffer): void
}

/** A layer of the stack, by its place (lowest 0), and the folder that it is applied to. */
export interface Target {
  readonly place: number
  readonly folder: string
}

/**
 * Applies those layers of a stack that have a target, from the lowest up. All layers are merged,
 * because a layer may link into those below it. Runs in a thread.
 */
export function applyLayers(layers: readonly LayerFiles[], targets: readonly Target[], form: LayerForm): void {
  withLayers(layers, (open) => {
    const folders = new Map(targets.map(({ place, folder }) => [place, folder]))
    const merger = new TreeMerger()
    open.forEach(({ index }, place) => {
      const delta = merger.apply(index)
      const folder = folders.get(place)
      if (folder === undefined) return
      const parent = openFolder(dirname(folder))
      try {
        new Application(delta, open, form, parent, Buffer.from(basename(folder))).run()
      } finally {
        closeSync(parent)
      }
    })
  })
}

/**
 * Applies one layer to a folder.
 *
 * Each directory is opened once by its whole path below the root, and the kernel refuses any
 * symbolic link on the way. Entries are made by their name in it. So no path gets too long, and
 * nothing that a layer brings is followed.
 */
class Application {
  readonly #index: LayerIndex

  constructor(
    readonly delta: LayerDelta,
    readonly layers: readonly OpenLayer[],
    readonly form: LayerForm,
    /** The folder's own parent, open, and its name there. */
    readonly parent: number,
    readonly name: Buffer,
  ) {
    this.#index = delta.index
  }

  run(): void {
    this.#directory(0, this.parent, this.name)
    const root = openFolder(below(this.parent, this.name))
    try {
      this.#fill(root)
    } finally {
      closeSync(root)
    }
    this.#attributes(0, this.parent, this.name)
  }

  #fill(root: number): void {
    this.#eachFolder(
      root,
      () => true,
      (folder, dirfd) => {
        for (let entry = this.#index.firstChild(folder); entry < this.#index.firstChild(folder + 1); entry++)
          this.#make(entry, dirfd, root)
      },
    )
    // Folders get their attributes last, because an entry that is made in a folder changes its
    // times.
    const isFolder = (entry: number): boolean => this.delta.action(entry) === ACTION.directory
    this.#eachFolder(root, isFolder, (folder, dirfd) => {
      for (let entry = this.#index.firstChild(folder); entry < this.#index.firstChild(folder + 1); entry++) {
        if (isFolder(entry)) this.#attributes(entry, dirfd, this.#index.name(entry))
      }
    })
  }

  /** Calls `work` for each folder with a `wanted` entry, parents before children. */
  #eachFolder(root: number, wanted: (entry: number) => boolean, work: (folder: number, dirfd: number) => void): void {
    const index = this.#index
    for (let folder = 0; folder < index.count; folder++) {
      const end = index.firstChild(folder + 1)
      let first = index.firstChild(folder)
      while (first < end && !wanted(first)) first++
      if (first === end) continue
      const dirfd = this.#open(root, folder)
      try {
        work(folder, dirfd)
      } finally {
        closeSync(dirfd)
      }
    }
  }

  #open(root: number, folder: number): number {
    const path = folder === 0 ? '.' : this.#index.path(folder)
    return openat2(root, path, constants.O_RDONLY | constants.O_DIRECTORY, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
  }

  #make(entry: number, dirfd: number, root: number): void {
    throwIfStopped()
    const name = this.#index.name(entry)
    switch (this.delta.action(entry)) {
      case ACTION.none:
        return
      case ACTION.directory:
        return this.#directory(entry, dirfd, name)
      case ACTION.whiteout:
        return this.form.whiteout(dirfd, name)
      case ACTION.link:
        this.form.makeWay(dirfd, name)
        return this.#link(entry, dirfd, name, root)
      case ACTION.node:
        this.form.makeWay(dirfd, name)
        this.#node(entry, dirfd, name)
        this.#attributes(entry, dirfd, name)
    }
  }

  #directory(entry: number, dirfd: number, name: Buffer): void {
    this.form.directory(dirfd, name)
    if (this.delta.opaque(entry)) this.form.opaque(dirfd, name)
  }

  #link(entry: number, dirfd: number, name: Buffer, root: number): void {
    const target = this.delta.linkTo(entry)
    const folder = this.#open(root, this.#index.parent(target))
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
    // Owner first: a change of owner clears set-user-id bits and file capabilities. Times last:
    // every other change sets them.
    fchownat(dirfd, name, index.uid(source), index.gid(source))
    if (index.kind(source) !== KIND.symlink) fchmodat(dirfd, name, index.mode(source))
    const path = below(dirfd, name)
    for (const [key, value] of index.xattrs(source)) lsetxattr(path, key, value)
    utimensat(dirfd, name, index.mtime(source), index.mtimeNanos(source))
  }
}
