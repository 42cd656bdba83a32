import { ENTRY, type TarEntry } from '@strata/archive'
import { StrataError } from '@strata/base'

/** A file of this size or more gets an object of its own; smaller ones are gathered in one. */
export const LARGE = 1024 * 1024
/**
 * The object of the gathered ones, and the list of what came. Both are names below
 * `data/<upload>/`; large files have their entry's number.
 */
export const SMALL_NAME = 'small'
export const LISTING_NAME = 'listing'

export interface Place {
  readonly name: string
  readonly offset: number
}

/**
 * Where each file of an archive goes. It follows from the archive alone, so both workers come to
 * the same without a word.
 */
export class Placement {
  #entries = 0
  #small = 0

  /**
   * To be called once for each entry, in order. `undefined` for what is no file. A file whose
   * length nobody knows yet is a large one.
   */
  next(entry: TarEntry): Place | undefined {
    const number = this.#entries++
    if (entry.type !== ENTRY.file) return undefined
    if (entry.sparse !== undefined) {
      throw new StrataError(
        'unsupported',
        `the archive holds ${JSON.stringify(entry.path.toString('utf8', 0, 200))} as a sparse file; write it without tar's --sparse`,
      )
    }
    if (entry.size >= LARGE) return { name: String(number), offset: 0 }
    const offset = this.#small
    this.#small += entry.size
    return { name: SMALL_NAME, offset }
  }
}
