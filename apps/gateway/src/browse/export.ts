import { setImmediate } from 'node:timers/promises'
import { exportTree, pieceLength, slicePieces, type ExportPiece } from '@strata/layers'
import { chainIdOf, hexOf } from '@strata/oci'
import type { RangedBody } from '../ranged-body.js'
import type { LayerBytes } from './layer-bytes.js'
import type { LayerCursor } from './layer-cursor.js'
import type { OpenTree } from './trees.js'

/**
 * A million entries take seconds to count. After so many pieces, other requests get a turn of the
 * event loop.
 */
const PIECES_AT_ONCE = 2_000
/** Headers and small files are gathered to pieces of at least so many bytes. */
const BATCH = 256 * 1024
/**
 * Names the form in which `exportTree` writes. If the form changes, this must change, so that the
 * ETag does.
 */
const FORM = 'export-1'

/**
 * An image's root file system as one tar, streamed from its blobs. The view must stay open until
 * all bytes are read.
 *
 * @param gone aborts when the client has left. The size is wrong then, and nobody reads it
 */
export async function exportBody(
  open: Pick<OpenTree, 'tree' | 'layers'>,
  bytes: Pick<LayerBytes, 'cursor'>,
  gone: AbortSignal,
): Promise<RangedBody> {
  let size = 0
  for await (const piece of politely(exportTree(open.tree))) {
    if (gone.aborted) break
    size += pieceLength(piece)
  }
  return {
    size,
    etag: `${hexOf(chainIdOf(open.layers.map(({ diffId }) => diffId)))}-${FORM}`,
    type: 'application/x-tar',
    parts: (range) => inBatches(bytesOf(open, bytes, slicePieces(politely(exportTree(open.tree)), range))),
  }
}

async function* bytesOf(
  { layers, tree }: Pick<OpenTree, 'tree' | 'layers'>,
  bytes: Pick<LayerBytes, 'cursor'>,
  pieces: AsyncIterable<ExportPiece>,
): AsyncGenerator<Uint8Array> {
  let open: { readonly layer: number; readonly cursor: LayerCursor } | undefined
  try {
    for await (const piece of pieces) {
      if ('bytes' in piece) {
        yield piece.bytes
        continue
      }
      if (open?.layer !== piece.layer) {
        await open?.cursor[Symbol.asyncDispose]()
        const { tarSize } = tree.layers[piece.layer]!
        open = {
          layer: piece.layer,
          cursor: bytes.cursor(layers[piece.layer]!, { until: tarSize, size: tarSize }),
        }
      }
      yield* open.cursor.take(piece.start, piece.end)
    }
  } finally {
    await open?.cursor[Symbol.asyncDispose]()
  }
}

async function* politely(pieces: Iterable<ExportPiece>): AsyncGenerator<ExportPiece> {
  let count = 0
  for (const piece of pieces) {
    if (++count % PIECES_AT_ONCE === 0) await setImmediate()
    yield piece
  }
}

async function* inBatches(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let batch: Uint8Array[] = []
  let length = 0
  for await (const piece of source) {
    batch.push(piece)
    length += piece.length
    if (length < BATCH) continue
    yield batch.length === 1 ? piece : Buffer.concat(batch, length)
    batch = []
    length = 0
  }
  if (length > 0) yield Buffer.concat(batch, length)
}
