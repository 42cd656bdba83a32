import { closeSync, renameSync } from 'node:fs'
import { linkat, mkdirat } from '@strata/linux'
import { below, openFolder, removeTree } from '../trees/tree.js'

/**
 * The files of a tree that get more names while the tree is made. Each is linked under its key into
 * one folder beside the tree. So a hard link costs the same wherever its target is. (A path to the
 * target may have a thousand components, and a million links may name it.)
 *
 * The last link is the name in that folder, renamed. So a file never has more names than in the
 * finished tree (EMLINK).
 */
export class LinkTargets implements Disposable {
  readonly #name: Buffer
  /** By key, how many links are still to be made. */
  readonly #left = new Map<string, number>()
  /** The descriptor of the folder. The first file makes the folder. */
  #dirfd: number | undefined

  /**
   * @param parent descriptor of the tree's parent
   * @param tree the name of the tree there
   */
  constructor(
    readonly parent: number,
    tree: Buffer,
  ) {
    this.#name = Buffer.concat([tree, Buffer.from('.links')])
  }

  /** Keeps a file that was made at this name, for `links` more names. */
  keep(key: string, links: number, dirfd: number, name: Buffer): void {
    linkat(dirfd, name, this.#folder(), key)
    this.#left.set(key, links)
  }

  has(key: string): boolean {
    return this.#left.has(key)
  }

  /** Gives a kept file one more name. */
  link(key: string, dirfd: number, name: Buffer): void {
    const left = this.#left.get(key)! - 1
    if (left > 0) {
      linkat(this.#folder(), key, dirfd, name)
      this.#left.set(key, left)
    } else {
      renameSync(below(this.#folder(), Buffer.from(key)), below(dirfd, name))
      this.#left.delete(key)
    }
  }

  /**
   * Deletes the folder, when all links are made. After a failure it stays, and is deleted with the
   * work folder that the tree is in.
   */
  end(): void {
    if (this.#dirfd !== undefined) removeTree(below(this.parent, this.#name))
  }

  [Symbol.dispose](): void {
    if (this.#dirfd !== undefined) closeSync(this.#dirfd)
    this.#dirfd = undefined
  }

  #folder(): number {
    if (this.#dirfd === undefined) {
      mkdirat(this.parent, this.#name, 0o700)
      this.#dirfd = openFolder(below(this.parent, this.#name))
    }
    return this.#dirfd
  }
}
