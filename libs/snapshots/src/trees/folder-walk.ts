import { closeSync, constants } from 'node:fs'
import { openat2, RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS } from '@strata/linux'

/**
 * How many folders on the way down stay open. This limits the descriptors of a walk. Most trees are
 * less deep, and are walked without a step through `..`.
 */
const MOST_OPEN = 32
const FLAGS = constants.O_RDONLY | constants.O_DIRECTORY
const PARENT = '..'

/**
 * Walks a tree of folders by descriptors. A step to a child or to the parent costs the same at any
 * depth. Paths from the root would cost their length at each folder, and one name of a thousand
 * components makes many deep folders.
 *
 * The kernel follows no link on the way. Nothing else may change the tree: a folder that is moved
 * during the walk has another parent.
 *
 * @example
 * using walk = new FolderWalk(root)
 * walk.down(Buffer.from('etc'))
 * mkdirat(walk.dirfd, Buffer.from('ssl'), 0o755)
 * walk.up()
 */
export class FolderWalk implements Disposable {
  /** The nearest folders on the way down, the current one last. The root is not among them. */
  readonly #open: number[] = []
  #depth = 0

  /** @param root a descriptor of the folder to start in; the caller closes it */
  constructor(private readonly root: number) {}

  /** The current folder. Valid until the next step. */
  get dirfd(): number {
    return this.#open.at(-1) ?? this.root
  }

  down(name: Buffer): void {
    this.#open.push(openat2(this.dirfd, name, FLAGS, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS))
    this.#depth++
    if (this.#open.length > MOST_OPEN) closeSync(this.#open.shift()!)
  }

  /** Steps to the parent. It is a fault of the caller to call it at the root. */
  up(): void {
    if (this.#depth === 0) throw new Error('a walk of folders would leave its root')
    const below = this.#open.pop()!
    try {
      if (--this.#depth > 0 && this.#open.length === 0)
        this.#open.push(openat2(below, PARENT, FLAGS, RESOLVE_NO_SYMLINKS))
    } finally {
      closeSync(below)
    }
  }

  [Symbol.dispose](): void {
    for (const dirfd of this.#open.splice(0)) closeSync(dirfd)
  }
}
