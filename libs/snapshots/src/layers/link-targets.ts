import { closeSync, renameSync } from 'node:fs'
import { linkat, mkdirat } from '@strata/linux'
import { below, openFolder, removeTree } from '../trees/tree.js'

/**
 * The files of a tree that get further names while it is made, each kept under its key in one
 * folder beside the tree. So a hard link costs the same wherever its target lies: a path to it may
 * have a thousand components, and a million links may name it.
 *
 * The last link to a file is its kept name, renamed: a file never has more names than it will have
 * (EMLINK).
 */
export class LinkTargets implements Disposable {
  readonly #name: Buffer
  /** By key: how many links are still to come. */
  readonly #left = new Map<string, number>()
  /** Of the folder, which is made with the first file. */
  #dirfd: number | undefined

  /** @param parent the open parent of the tree, and `tree` its name there */
  constructor(
    readonly parent: number,
    tree: Buffer,
  ) {
    this.#name = Buffer.concat([tree, Buffer.from('.links')])
  }

  /** A file was made at this name, and gets so many more. */
  keep(key: string, links: number, dirfd: number, name: Buffer): void {
    linkat(dirfd, name, this.#folder(), key)
    this.#left.set(key, links)
  }

  has(key: string): boolean {
    return this.#left.has(key)
  }

  /** A further name of a file that is kept. */
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

  /** All links are made. What fails before leaves the folder to those who remove the tree. */
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
