import { createHash } from 'node:crypto'
import type { Xattr } from '../kind.js'
import { ByteArena } from './place-table.js'
import { keptXattrs } from './xattr-rules.js'

/** The set of an inode without extended attributes. */
export const NO_SET = 0xffffffff

/**
 * The extended attributes of a layer while its tar is read. An attribute (name and value) is kept
 * once however many entries have it, and so is a set of attributes: one global header of a tar
 * gives the same quarter of a mebibyte to every entry behind it.
 *
 * What costs time is bounded in the same way. A list or a pair that comes again as the same object
 * (see `TarEntry`) is known by its identity, and not read again.
 */
export class XattrStore {
  /** Names and values, one behind the other; where each ends, by attribute. */
  readonly bytes = new ByteArena()
  readonly nameEnd: number[] = []
  readonly valueEnd: number[] = []
  /** By set: its attributes, sorted by name. */
  readonly sets: Uint32Array[] = []
  /** By set: the bytes that an inode with it has, shared or not. */
  readonly sizes: number[] = []
  /** The list that came last, and its set. */
  #last: readonly Xattr[] = []
  #lastSet = NO_SET
  /** Long ones only: a short one is as quickly known by its content. */
  readonly #byPair = new WeakMap<Xattr, number>()
  readonly #byContent = new Map<string, number>()
  readonly #bySet = new Map<string, number>()

  /**
   * The set that an entry's attributes are, without those that no layer keeps. Errors:
   * `layer_invalid`, with the entry's path.
   */
  setOf(xattrs: readonly Xattr[], path: Uint8Array): number {
    if (xattrs.length === 0) return NO_SET
    if (xattrs !== this.#last) {
      this.#lastSet = this.#setOf(keptXattrs(xattrs, path))
      this.#last = xattrs
    }
    return this.#lastSet
  }

  /** Where an attribute begins. */
  start(attribute: number): number {
    return attribute === 0 ? 0 : this.valueEnd[attribute - 1]!
  }

  #setOf(kept: readonly Xattr[]): number {
    if (kept.length === 0) return NO_SET
    const attributes = Uint32Array.from(kept, (xattr) => this.#attribute(xattr))
    const key = Buffer.from(attributes.buffer).toString('latin1')
    const known = this.#bySet.get(key)
    if (known !== undefined) return known
    const set = this.sets.push(attributes) - 1
    this.sizes.push(kept.reduce((sum, [name, value]) => sum + name.length + value.length, 0))
    this.#bySet.set(key, set)
    return set
  }

  #attribute(xattr: Xattr): number {
    const [name, value] = xattr
    // A name holds no zero byte, so one of them tells where it ends.
    if (name.length + value.length <= SHORT)
      return this.#withContent(`${name.toString('latin1')}\0${value.toString('latin1')}`, xattr)
    const seen = this.#byPair.get(xattr)
    if (seen !== undefined) return seen
    // It has no zero byte, as the text of every short one has.
    const digest = createHash('sha512').update(name).update(ZERO).update(value).digest('hex')
    const attribute = this.#withContent(digest, xattr)
    this.#byPair.set(xattr, attribute)
    return attribute
  }

  #withContent(content: string, [name, value]: Xattr): number {
    let attribute = this.#byContent.get(content)
    if (attribute === undefined) {
      attribute = this.nameEnd.length
      this.bytes.append(name)
      this.nameEnd.push(this.bytes.end)
      this.bytes.append(value)
      this.valueEnd.push(this.bytes.end)
      this.#byContent.set(content, attribute)
    }
    return attribute
  }
}

const SHORT = 120
const ZERO = Buffer.alloc(1)
