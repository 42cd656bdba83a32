import { rmdir } from 'node:fs/promises'
import { dirname } from 'node:path'
import { isErrno } from './object-file.js'

/** Between the delete that may have emptied a folder and the look whether it has. */
const AFTER_MS = 1_000
/** How many may wait. Who brings one more waits until all are done. */
const MOST = 1_000

/**
 * The folders of a store that were seen empty, or that a delete may have emptied. They are removed
 * a second later, with those above them that are empty then, apart from the delete: a removal takes
 * ext4 0.2 to 4 ms, an object's mark lies in eight folders of its own, and the next object often
 * needs some of them again.
 *
 * An empty folder means nothing: no list shows it, and who makes an object makes its folders again
 * if they have gone meanwhile. What a process leaves that dies within the second is removed when a
 * list next comes to it.
 */
export class EmptyFolders {
  #waiting = new Set<string>()
  #timer: NodeJS.Timeout | undefined
  #removal: Promise<void> | undefined

  /** `root` itself stays. */
  constructor(private readonly root: string) {}

  async add(folder: string): Promise<void> {
    this.#waiting.add(folder)
    if (this.#waiting.size > MOST) return this.#removeAll()
    this.#timer ??= setTimeout(() => void this.#removeAll(), AFTER_MS).unref()
  }

  /** Removes those that wait. */
  async close(): Promise<void> {
    await this.#removal
    await this.#removeAll()
  }

  /** One removal at a time: the folders above are shared. */
  #removeAll(): Promise<void> {
    clearTimeout(this.#timer)
    this.#timer = undefined
    return (this.#removal ??= this.#remove().finally(() => (this.#removal = undefined)))
  }

  async #remove(): Promise<void> {
    for (const folder of this.#waiting) {
      this.#waiting.delete(folder)
      await this.#removeEmpty(folder)
    }
  }

  async #removeEmpty(first: string): Promise<void> {
    for (let folder = first; folder.length > this.root.length; folder = dirname(folder)) {
      try {
        await rmdir(folder)
      } catch (error) {
        // Not empty, or the disk refuses: a list comes here again. Not there: another was quicker.
        if (!isErrno(error, 'ENOENT')) return
      }
    }
  }
}
