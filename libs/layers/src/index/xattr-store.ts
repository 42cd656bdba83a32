import { createHash, randomFillSync } from 'node:crypto'
import type { TarEntry } from '@strata/archive'
import type { Xattr } from '../kind.js'
import { compareBytes, grown } from './bytes.js'
import { ByteArena } from './place-table.js'
import { checkXattrSize, keptXattrs, type XattrHolder } from './xattr-rules.js'

/** The set of an inode without extended attributes. */
export const NO_SET = 0xffffffff

/** A set of attributes: those of `base` whose names `own` does not have, and those of `own`. */
interface XattrSet {
  /** It has no base itself. */
  readonly base: XattrSet | undefined
  /** Numbers of attributes, sorted by name. */
  readonly own: readonly number[]
  readonly count: number
  /** Of names and values. */
  readonly bytes: number
}

/** The tokens of all attributes of a set, combined by XOR: four words. */
type Token = Uint32Array<ArrayBuffer>

const EMPTY: XattrSet = { base: undefined, own: [], count: 0, bytes: 0 }

/**
 * The extended attributes of a layer while its tar is read. An attribute (name and value) is kept
 * once however many entries have it, and so is a set of attributes.
 *
 * Law: an entry costs as much time and memory as its own header has attributes, however many a
 * global header gives to it. 254 of those come with each local header of a few bytes. So the set of
 * an entry is the set of its global header, read once, with a few changes, and is recognised
 * without a look at the rest: each attribute has a random token of 128 bits, and a set is known by
 * the XOR of its attributes' tokens. The tokens are secret, so no tar can make two sets collide.
 */
export class XattrStore {
  /** Names and values, one behind the other; where each ends, by attribute. */
  readonly bytes = new ByteArena()
  readonly nameEnd: number[] = []
  readonly valueEnd: number[] = []
  readonly #sets: XattrSet[] = []
  readonly #byContent = new Map<string, number>()
  readonly #byToken = new Map<string, number>()
  /** By attribute, four words each. */
  #tokens = randomFillSync(new Uint32Array(4 * 64))
  /** The global list that was read last, and what it is on files of each kind. */
  #global: readonly Xattr[] = []
  readonly #globalSets = new Map<XattrHolder, { readonly set: XattrSet; readonly token: Token }>()

  /**
   * The set that an entry's attributes are, without those that no layer keeps. Errors:
   * `layer_invalid`, with the entry's path.
   */
  setOf(entry: Pick<TarEntry, 'globalXattrs' | 'ownXattrs' | 'path'>, holder: XattrHolder): number {
    const { globalXattrs, ownXattrs, path } = entry
    if (globalXattrs.length === 0 && ownXattrs.length === 0) return NO_SET
    const global = this.#globalSet(globalXattrs, holder, path)
    const token = global.token.slice()
    const set = this.#changed(global.set, keptXattrs(ownXattrs, holder, path), token)
    if (set.count === 0) return NO_SET
    checkXattrSize(set.count, set.bytes, path)
    return this.#numberOf(set, token)
  }

  /** How many sets there are. Sets have the numbers from 0 on. */
  get setCount(): number {
    return this.#sets.length
  }

  /** The bytes that an inode with this set has, shared or not. */
  sizeOf(set: number): number {
    return this.#sets[set]!.bytes
  }

  /** The attributes of a set, sorted by name. */
  membersOf(set: number): readonly number[] {
    const { base, own } = this.#sets[set]!
    if (base === undefined) return own
    const members: number[] = []
    let from = 0
    for (const attribute of own) {
      const place = this.#placeIn(base, attribute)
      while (from < place) members.push(base.own[from++]!)
      members.push(attribute)
      if (this.#hasName(base, place, attribute)) from++
    }
    while (from < base.own.length) members.push(base.own[from++]!)
    return members
  }

  /** Where an attribute begins. */
  start(attribute: number): number {
    return attribute === 0 ? 0 : this.valueEnd[attribute - 1]!
  }

  #globalSet(list: readonly Xattr[], holder: XattrHolder, path: Buffer): { set: XattrSet; token: Token } {
    if (list !== this.#global) this.#globalSets.clear()
    this.#global = list
    let known = this.#globalSets.get(holder)
    if (known === undefined) {
      const token: Token = new Uint32Array(4)
      known = { set: this.#changed(EMPTY, keptXattrs(list, holder, path), token), token }
      this.#globalSets.set(holder, known)
    }
    return known
  }

  #numberOf(set: XattrSet, token: Token): number {
    const key = Buffer.from(token.buffer).toString('latin1')
    let number = this.#byToken.get(key)
    if (number === undefined) {
      number = this.#sets.push(set) - 1
      this.#byToken.set(key, number)
    }
    return number
  }

  /**
   * @param kept sorted by name
   * @param token of the base; becomes that of the new set
   */
  #changed(base: XattrSet, kept: readonly Xattr[], token: Token): XattrSet {
    if (kept.length === 0) return base
    const own = kept.map((xattr) => this.#attribute(xattr))
    let { count, bytes } = base
    for (const attribute of own) {
      const place = this.#placeIn(base, attribute)
      if (this.#hasName(base, place, attribute)) {
        const replaced = base.own[place]!
        this.#flip(token, replaced)
        bytes -= this.#sizeOfAttribute(replaced)
        count--
      }
      this.#flip(token, attribute)
      bytes += this.#sizeOfAttribute(attribute)
      count++
    }
    return { base: base.count === 0 ? undefined : base, own, count, bytes }
  }

  /** Where an attribute of this name stands in the set, or would stand. */
  #placeIn({ own }: XattrSet, attribute: number): number {
    let low = 0
    let high = own.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.#compareNames(own[middle]!, attribute) < 0) low = middle + 1
      else high = middle
    }
    return low
  }

  #hasName({ own }: XattrSet, place: number, attribute: number): boolean {
    return place < own.length && this.#compareNames(own[place]!, attribute) === 0
  }

  #compareNames(a: number, b: number): number {
    const { bytes } = this.bytes
    return compareBytes(bytes, this.start(a), this.nameEnd[a]!, bytes, this.start(b), this.nameEnd[b]!)
  }

  #sizeOfAttribute(attribute: number): number {
    return this.valueEnd[attribute]! - this.start(attribute)
  }

  #flip(token: Token, attribute: number): void {
    for (let word = 0; word < 4; word++) token[word]! ^= this.#tokens[4 * attribute + word]!
  }

  #attribute([name, value]: Xattr): number {
    // A name holds no zero byte, so one of them tells where it ends. A digest in hex holds none, so
    // it is never the text of a short one.
    const content =
      name.length + value.length <= SHORT
        ? `${name.toString('latin1')}\0${value.toString('latin1')}`
        : createHash('sha512').update(name).update(ZERO).update(value).digest('hex')
    let attribute = this.#byContent.get(content)
    if (attribute === undefined) {
      attribute = this.nameEnd.length
      this.bytes.append(name)
      this.nameEnd.push(this.bytes.end)
      this.bytes.append(value)
      this.valueEnd.push(this.bytes.end)
      this.#byContent.set(content, attribute)
      if (4 * attribute === this.#tokens.length) this.#growTokens()
    }
    return attribute
  }

  #growTokens(): void {
    const known = this.#tokens.length
    this.#tokens = grown(this.#tokens, 2 * known)
    randomFillSync(this.#tokens, known)
  }
}

const SHORT = 120
const ZERO = Buffer.alloc(1)
