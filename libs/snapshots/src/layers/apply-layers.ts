import { closeSync, constants, ftruncateSync, openSync } from 'node:fs'
import { basename, dirname } from 'node:path'
import { StrataError } from '@strata/base'
import { fchmodat, fchownat, mkfifoat, mknodat, symlinkat, utimensat } from '@strata/linux'
import { ACTION, KIND, TreeMerger, typeBits, type Action, type LayerDelta, type LayerIndex } from '@strata/layers'
import type { LayerFiles } from '../snapshotter.js'
import { throwIfStopped } from '../threads/stop.js'
import { FolderWalk } from '../trees/folder-walk.js'
import { keepXattr } from '../trees/keep-xattr.js'
import { below, openFolder } from '../trees/tree.js'
import { copyData } from './copy-data.js'
import { withLayers, type OpenLayer } from './layer-files.js'
import { LinkTargets } from './link-targets.js'

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

/** What is done with the directories of a layer, depth first. */
interface Visitor {
  /** Whether to open this directory and the ones below it. */
  isToEnter(folder: number): boolean
  enter(folder: number, dirfd: number): void
  /**
   * Called when everything in the directory is done, also if it was not entered. `dirfd` is its
   * parent.
   */
  leave(folder: number, dirfd: number): void
}

/**
 * Applies one layer to a folder.
 *
 * Law: an entry costs the same at any depth. So the directories are walked depth first by
 * descriptors, and hard links are made from one folder that has all their targets. Entries are made
 * by name in an open directory: no path gets too long, and nothing that a layer brings is followed.
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
    const links = this.#linkCounts()
    using targets = new LinkTargets(this.parent, this.name)
    this.#eachFolder(root, {
      isToEnter: (folder) => this.#holds(folder, () => true),
      enter: (folder, dirfd) => {
        for (const entry of this.#entriesOf(folder)) {
          this.#make(entry, dirfd)
          const further = links.get(entry)
          if (further !== undefined) targets.keep(String(entry), further, dirfd, this.#index.name(entry))
        }
      },
      leave: () => undefined,
    })
    // Links are made when all their targets exist, which may be anywhere in the tree. A directory
    // gets its attributes last, because an entry that is made in it changes its times.
    this.#eachFolder(root, {
      isToEnter: (folder) => this.#holds(folder, (action) => action === ACTION.directory || action === ACTION.link),
      enter: (folder, dirfd) => {
        for (const entry of this.#entriesOf(folder))
          if (this.delta.action(entry) === ACTION.link) this.#link(entry, dirfd, targets)
      },
      leave: (folder, dirfd) => this.#attributes(folder, dirfd, this.#index.name(folder)),
    })
    targets.end()
  }

  /** Calls `enter` for parents before children, `leave` for children before parents. */
  #eachFolder(root: number, visitor: Visitor): void {
    const index = this.#index
    using walk = new FolderWalk(root)
    let folder = 0
    let entry = index.firstChild(0)
    visitor.enter(0, walk.dirfd)
    for (;;) {
      throwIfStopped()
      if (entry === index.firstChild(folder + 1)) {
        if (folder === 0) return
        walk.up()
        visitor.leave(folder, walk.dirfd)
        entry = folder + 1
        folder = index.parent(folder)
      } else if (this.delta.action(entry) !== ACTION.directory) {
        entry++
      } else if (!visitor.isToEnter(entry)) {
        visitor.leave(entry, walk.dirfd)
        entry++
      } else {
        walk.down(index.name(entry))
        visitor.enter(entry, walk.dirfd)
        folder = entry
        entry = index.firstChild(folder)
      }
    }
  }

  *#entriesOf(folder: number): Generator<number> {
    const end = this.#index.firstChild(folder + 1)
    for (let entry = this.#index.firstChild(folder); entry < end; entry++) yield entry
  }

  #holds(folder: number, wanted: (action: Action) => boolean): boolean {
    const end = this.#index.firstChild(folder + 1)
    for (let entry = this.#index.firstChild(folder); entry < end; entry++)
      if (wanted(this.delta.action(entry))) return true
    return false
  }

  /** By entry, how many links of this layer name it. */
  #linkCounts(): Map<number, number> {
    const counts = new Map<number, number>()
    for (let entry = 0; entry < this.#index.count; entry++) {
      if (this.delta.action(entry) !== ACTION.link) continue
      const target = this.delta.linkTo(entry)
      counts.set(target, (counts.get(target) ?? 0) + 1)
    }
    return counts
  }

  #make(entry: number, dirfd: number): void {
    throwIfStopped()
    const name = this.#index.name(entry)
    switch (this.delta.action(entry)) {
      case ACTION.none:
      case ACTION.link:
        return
      case ACTION.directory:
        return this.#directory(entry, dirfd, name)
      case ACTION.whiteout:
        return this.form.whiteout(dirfd, name)
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

  #link(entry: number, dirfd: number, targets: LinkTargets): void {
    throwIfStopped()
    const name = this.#index.name(entry)
    this.form.makeWay(dirfd, name)
    targets.link(String(this.delta.linkTo(entry)), dirfd, name)
  }

  #node(entry: number, dirfd: number, name: Buffer): void {
    const { tar, index } = this.layers[this.delta.sourceLayer(entry)]!
    const source = this.delta.sourceEntry(entry)
    const kind = index.kind(source)
    switch (kind) {
      case KIND.file:
        return this.#file(index, source, tar, below(dirfd, name), () => this.#index.path(entry))
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

  #file(index: LayerIndex, source: number, tar: number, path: Buffer, shown: () => Buffer): void {
    const fd = openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, 0o600)
    try {
      const ranges = index.sparse(source)
      if (!ranges) return copyData(tar, index.dataOffset(source), fd, 0, index.size(source))
      setSize(fd, index.size(source), shown)
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
    for (const [key, value] of index.xattrs(source)) keepXattr(path, key, value, () => this.#index.path(entry))
    utimensat(dirfd, name, index.mtime(source), index.mtimeNanos(source))
  }
}

/** Errors: `unsupported` for a file that is larger than this file system takes. */
function setSize(fd: number, size: number, shown: () => Buffer): void {
  try {
    ftruncateSync(fd, size)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'EFBIG' && code !== 'EINVAL') throw error
    throw new StrataError(
      'unsupported',
      `the file system of the node's folder takes no file of ${size} bytes, which ${JSON.stringify(`/${shown().toString()}`)} has`,
      { cause: error },
    )
  }
}
