import { isDeepStrictEqual } from 'node:util'
import { TarReader, type TarEntry } from '@strata/archive'
import { IndexBuilder, LayerIndex } from '@strata/layers'
import { StrataError } from '@strata/base'
import type { Random } from './random.js'
import { makeTar } from './tar-cases.js'

/** What became of a tar: the entries, or the one error. */
interface Outcome {
  readonly seen: string[]
  readonly error: string | undefined
}

/**
 * Of every tar: it ends in entries or one StrataError, the same however it is cut or passed over,
 * and its index is one that every reader accepts.
 */
export function fuzzTar(random: Random): void {
  const tar = makeTar(random)
  const whole = read(tar, () => tar.length)
  const cut = read(tar, () => 1 + random.number(1500))
  expectSame('cut in pieces', whole, cut)
  expectSame('passed over', whole, readHeaders(tar, 1 + random.number(1024)))
  const [first, second] = [indexOf(tar, () => tar.length), indexOf(tar, () => 1 + random.number(700))]
  if (typeof first === 'string' || typeof second === 'string') {
    if (first !== second) throw new Error(`the index of the whole: ${String(first)}; of pieces: ${String(second)}`)
    return
  }
  if (!first.equals(second)) throw new Error('the index is another one when the tar comes in pieces')
  const decoded = LayerIndex.decode(first)
  if (decoded.tarSize !== tar.length)
    throw new Error(`the index speaks of ${decoded.tarSize} bytes, the tar has ${tar.length}`)
}

function read(tar: Buffer, piece: () => number): Outcome {
  const seen: string[] = []
  const reader = new TarReader({
    entry: (entry) => (seen.push(shown(entry)), true),
    data: () => undefined,
    entryEnd: () => void seen.push('end'),
  })
  return { seen, error: feed(reader, tar, piece) }
}

/** As from a file: what nobody looks at is passed over. */
function readHeaders(tar: Buffer, window: number): Outcome {
  const seen: string[] = []
  const reader = new TarReader({
    entry: (entry) => (seen.push(shown(entry)), false),
    data: () => void seen.push('unwanted'),
    entryEnd: () => void seen.push('end'),
  })
  const error = errorOf(() => {
    for (let at = 0; at < tar.length;) {
      const view = Buffer.from(tar.subarray(at, at + window))
      reader.write(view)
      at += view.length
      while (reader.unread > 0 && at < tar.length) {
        const count = Math.min(reader.unread, tar.length - at)
        reader.pass(count)
        at += count
      }
    }
    reader.end()
  })
  return { seen, error }
}

function indexOf(tar: Buffer, piece: () => number): Buffer | string {
  const builder = new IndexBuilder()
  const error = feed(new TarReader(builder), tar, piece)
  if (error !== undefined) return error
  let index: Buffer | undefined
  return errorOf(() => (index = builder.finish(tar.length).encode())) ?? index!
}

/** Each piece is spoilt behind it, as a ring's slot is filled anew. */
function feed(reader: TarReader, tar: Buffer, piece: () => number): string | undefined {
  return errorOf(() => {
    for (let at = 0; at < tar.length;) {
      const slot = Buffer.from(tar.subarray(at, at + piece()))
      reader.write(slot)
      at += slot.length
      slot.fill(0x78)
    }
    reader.end()
  })
}

function errorOf(act: () => unknown): string | undefined {
  try {
    act()
    return undefined
  } catch (error) {
    if (error instanceof StrataError && error.code !== 'internal') return `${error.code}: ${error.message}`
    throw error
  }
}

function shown(entry: TarEntry): string {
  const {
    path,
    link,
    type,
    mode,
    uid,
    gid,
    size,
    storedSize,
    dataOffset,
    mtime,
    mtimeNanos,
    devMajor,
    devMinor,
    xattrs,
    sparse,
  } = entry
  return JSON.stringify([
    path.toString('latin1'),
    link.toString('latin1'),
    type,
    mode,
    uid,
    gid,
    size,
    storedSize,
    dataOffset,
    mtime,
    mtimeNanos,
    devMajor,
    devMinor,
    xattrs.map((pair) => pair.map((part) => part.toString('latin1'))),
    sparse,
  ])
}

function expectSame(how: string, one: Outcome, other: Outcome): void {
  if (!isDeepStrictEqual(one, other))
    throw new Error(`another tar when ${how}:\n${JSON.stringify(one)}\n${JSON.stringify(other)}`)
}
