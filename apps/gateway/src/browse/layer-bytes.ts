import type { Duplex, Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { pipeline } from 'node:stream/promises'
import { promisify } from 'node:util'
import { createInflateRaw, inflateRaw } from 'node:zlib'
import {
  checkpointBefore,
  checkpointRows,
  CHECKPOINTS_HEADER,
  COMPRESSION_HEAD,
  decompressor,
  detectCompression,
  fromAmidByte,
  type Checkpoint,
} from '@strata/archive'
import type { ImageLayer } from '@strata/images'
import { StrataError } from '@strata/base'
import { type Digest } from '@strata/oci'
import { BlobStore, keys, type ObjectStore } from '@strata/store'
import { LayerCursor } from './layer-cursor.js'

/** Up to so many bytes are read and skipped, because another request to the store costs more. */
const MAX_SKIP = 4 * 1024 * 1024
/**
 * How many bytes of checkpoint tables are kept. A table has about 20 bytes for each MiB of a
 * layer's tar.
 */
const MAX_TABLES = 4 * 1024 * 1024
/** The window of deflate: how far back its data refer. */
const WINDOW = 32 * 1024
/**
 * How many bytes are unpacked at a time. A reader mostly needs little of what lies between two
 * checkpoints.
 */
const CHUNK = 256 * 1024

/**
 * The bytes of layers' tars, read from their blobs, however the blobs are packed. Nothing is
 * written, and memory holds only what the streams buffer.
 *
 * A gzip layer is unpacked from the last checkpoint before the wanted bytes, up to the next
 * checkpoint. Any other packed layer, and one whose checkpoints are missing or damaged, is unpacked
 * from its beginning.
 */
export class LayerBytes {
  readonly #blobs: BlobStore
  readonly #tables = new Map<Digest, Buffer>()

  constructor(private readonly store: ObjectStore) {
    this.#blobs = new BlobStore(store)
  }

  /**
   * A cursor for parts of the layer's tar that end at `until` at most; `size` is the size of the
   * whole tar. A plain layer's digest is its diffID, unless the layer was loaded under its sha512:
   * then it is read like a packed layer.
   */
  cursor(layer: ImageLayer, { until, size }: { readonly until: number; readonly size: number }): LayerCursor {
    const { digest } = layer
    if (digest === layer.diffId)
      return new LayerCursor(
        async (start) => ({ at: start, body: (await this.#blobs.open(digest, { start, end: until })).body }),
        MAX_SKIP,
      )
    return new LayerCursor((start) => this.#openPacked(layer, size, start), Infinity)
  }

  async #openPacked(
    { digest, size: packed }: ImageLayer,
    size: number,
    start: number,
  ): Promise<{ at: number; body: AsyncIterable<Uint8Array> }> {
    const point = await this.#pointBefore(digest, start, size)
    const window = point && (await this.#window(digest, point))
    if (!window) return { at: 0, body: await this.#fromBeginning(digest) }
    return { at: point.out, body: this.#fromPoint(digest, packed, point, window) }
  }

  async #fromBeginning(digest: Digest): Promise<Readable> {
    const head = await buffer((await this.#blobs.open(digest, { start: 0, end: COMPRESSION_HEAD })).body)
    // The layer was checked against the limits when it was loaded. A limit that changed since does
    // not apply to it.
    return unpacked(
      (await this.#blobs.open(digest)).body,
      decompressor(detectCompression(head), { maxRatio: Infinity }),
    )
  }

  /** The tar from a checkpoint up to the next one. */
  async *#fromPoint(
    digest: Digest,
    packed: number,
    { packed: start, bit, out, end }: Checkpoint,
    window: Buffer,
  ): AsyncGenerator<Uint8Array> {
    const { body } = await this.#blobs.open(digest, { start, end: packed })
    const plain =
      window.length === 0
        ? unpacked(body, decompressor('gzip', { maxRatio: Infinity }))
        : unpacked(body, createInflateRaw({ dictionary: window, chunkSize: CHUNK }), bit)
    let left = end - out
    try {
      for await (const piece of plain as AsyncIterable<Buffer>) {
        yield piece.subarray(0, left)
        left -= piece.length
        if (left <= 0) return
      }
    } catch (error) {
      throw error instanceof StrataError
        ? error
        : new StrataError('corrupt', `the layer ${digest} in the store is damaged`, { cause: error })
    }
  }

  /**
   * The window of a checkpoint, unpacked; empty where a member begins; `undefined` if it is
   * damaged.
   */
  async #window(digest: Digest, { window, isWindow }: Checkpoint): Promise<Buffer | undefined> {
    const kept =
      window.start === window.end
        ? NOTHING
        : await this.store.get(keys.checkpoints(digest), window).then((found) => found && buffer(found.body))
    if (!kept || !isWindow(kept)) return undefined
    return kept.length === 0 ? kept : unpackWindow(kept, { maxOutputLength: WINDOW })
  }

  /** The last checkpoint before `start`. Damaged checkpoints count as none. */
  async #pointBefore(digest: Digest, start: number, size: number): Promise<Checkpoint | undefined> {
    try {
      const table = await this.#table(digest)
      return table && checkpointBefore(table, start, size)
    } catch (error) {
      if (error instanceof StrataError && error.code === 'corrupt') return undefined
      throw error
    }
  }

  /** Header and rows of the layer's checkpoints, if it has any. */
  async #table(digest: Digest): Promise<Buffer | undefined> {
    const known = this.#tables.get(digest)
    if (known) return known
    const key = keys.checkpoints(digest)
    const head = await this.store.get(key, { start: 0, end: CHECKPOINTS_HEADER })
    if (!head) return undefined
    const length = checkpointRows(await buffer(head.body))
    if (length > MAX_TABLES) return undefined
    const rows = await this.store.get(key, { start: 0, end: length })
    if (!rows) return undefined
    const table = await buffer(rows.body)
    this.#tables.set(digest, table)
    let sum = [...this.#tables.values()].reduce((total, each) => total + each.length, 0)
    for (const [oldest, each] of this.#tables) {
      if (sum <= MAX_TABLES) break
      this.#tables.delete(oldest)
      sum -= each.length
    }
    return table
  }
}

/**
 * `plain` passes an error of `body` to its reader. When the reader stops, both streams end. `bit`
 * says where in its first byte the body begins.
 */
function unpacked(body: Readable, plain: Duplex, bit = 0): Duplex {
  const fed =
    bit === 0
      ? pipeline(body, plain)
      : pipeline(body, (bytes: AsyncIterable<Buffer>) => fromAmidByte(bytes, bit), plain)
  fed.catch(() => undefined)
  return plain
}

const NOTHING = Buffer.alloc(0)
const unpackWindow = promisify(inflateRaw) as (bytes: Buffer, options: { maxOutputLength: number }) => Promise<Buffer>
