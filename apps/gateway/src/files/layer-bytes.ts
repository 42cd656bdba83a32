import { buffer } from 'node:stream/consumers'
import { pipeline } from 'node:stream/promises'
import { Inject, Injectable } from '@nestjs/common'
import { COMPRESSION_HEAD, decompressor, detectCompression } from '@strata/archive'
import type { ImageLayer } from '@strata/images'
import type { Digest } from '@strata/oci'
import { BlobStore, OBJECT_STORE, type ObjectStore } from '@strata/store'
import { LayerCursor } from './layer-cursor.js'

/** To read on costs less than another request to the store, up to here. */
const MAX_SKIP = 4 * 1024 * 1024

/** The bytes of layers' tars, read from their blobs however these are packed. Nothing is written, and no more in memory than the streams hold. */
@Injectable()
export class LayerBytes {
  readonly #blobs: BlobStore

  constructor(@Inject(OBJECT_STORE) store: ObjectStore) {
    this.#blobs = new BlobStore(store)
  }

  /** For parts that end at `until` at most. A plain layer's digest is its diffID. */
  cursor({ digest, diffId }: ImageLayer, until: number): LayerCursor {
    if (digest === diffId) return new LayerCursor(async (start) => ({ at: start, body: (await this.#blobs.open(digest, { start, end: until })).body }), MAX_SKIP)
    return new LayerCursor(async () => ({ at: 0, body: await this.#inflated(digest) }), Infinity)
  }

  async #inflated(digest: Digest): Promise<AsyncIterable<Uint8Array>> {
    const head = await buffer((await this.#blobs.open(digest, { start: 0, end: COMPRESSION_HEAD })).body)
    const { body } = await this.#blobs.open(digest)
    const plain = decompressor(detectCompression(head))
    // Its error is the reader's to see; who stops reading ends both.
    pipeline(body, plain).catch(() => undefined)
    return plain
  }
}
