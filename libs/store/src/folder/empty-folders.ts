import { rmdir } from 'node:fs'
import { dirname } from 'node:path'

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
    this.#schedule()
    while (this.#waiting.size > MOST) await this.#removeAll()
  }

  /** At once, this folder and those above it, without those that wait. */
  async remove(folder: string): Promise<void> {
    for (let at = folder; at.length > this.root.length && (await removeIfEmpty(at));) at = dirname(at)
  }

  /** Removes those that wait. */
  async close(): Promise<void> {
    while (this.#removal || this.#waiting.size > 0) await this.#removeAll()
  }

  #schedule(): void {
    if (this.#timer) return
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      void this.#removeAll()
    }, AFTER_MS).unref()
  }

  /** One removal at a time: the folders above are shared. */
  #removeAll(): Promise<void> {
    return (this.#removal ??= this.#remove().finally(() => {
      this.#removal = undefined
      if (this.#waiting.size > 0) this.#schedule()
    }))
  }

  async #remove(): Promise<void> {
    let folders = this.#waiting
    this.#waiting = new Set()
    // Level by level, so that a folder that was above many of them is tried few times.
    while (folders.size > 0) {
      const above = new Set<string>()
      for (const folder of folders)
        if (folder.length > this.root.length && (await removeIfEmpty(folder))) above.add(dirname(folder))
      folders = above
    }
  }
}

/**
 * Whether it was empty and is removed now. What the disk refuses counts as not empty: a list comes
 * there again. By callback: a promise that is rejected costs more than the call, and most are not
 * empty.
 */
function removeIfEmpty(folder: string): Promise<boolean> {
  return new Promise((resolve) => {
    rmdir(folder, (error) => resolve(!error))
  })
}
