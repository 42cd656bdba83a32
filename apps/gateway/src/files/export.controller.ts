import { setImmediate } from 'node:timers/promises'
import type { IncomingMessage } from 'node:http'
import { Controller, Get, Param, Req, Res } from '@nestjs/common'
import { ApiOperation, ApiResponse, ApiTags } from '@nestjs/swagger'
import { Images } from '@strata/images'
import { exportTree, pieceLength, slicePieces, type ExportPiece } from '@strata/layers'
import { chainIdOf, hexOf } from '@strata/oci'
import { closedSignal } from '@strata/platform'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { z } from 'zod'
import { answersProblems } from '../problems.js'
import { sendRanged } from '../ranged-body.js'
import { LayerBytes } from './layer-bytes.js'
import type { LayerCursor } from './layer-cursor.js'
import { Trees, type OpenTree } from './trees.js'

/** Counted, a million entries take seconds: others are let in between so many pieces. */
const PIECES_AT_ONCE = 2_000
/** Headers and small files go out together. */
const BATCH = 256 * 1024
/** The way in which `exportTree` writes: another way, another tag. */
const FORM = 'export-1'

/** An image's root file system as one tar, streamed from its blobs. */
@ApiTags('images')
@Controller('v1/images')
export class ExportController {
  constructor(
    private readonly images: Images,
    private readonly trees: Trees,
    private readonly bytes: LayerBytes,
  ) {}

  @Get(':ref/export')
  @ApiOperation({ summary: 'The image’s root file system as a tar: the same bytes for the same layers always' })
  @ApiResponse({ status: 200, content: { 'application/x-tar': { schema: { type: 'string', format: 'binary' } } } })
  @ApiResponse({ status: 206, description: 'the part that Range asks for' })
  @ApiResponse({ status: 416, description: 'no such part' })
  @answersProblems('image_not_found', 'image_ambiguous', 'limit_exceeded', 'corrupt')
  async export(
    @Param('ref', { schema: z.string().min(1).max(512) }) name: string,
    @Req() { raw }: FastifyRequest,
    @Res() reply: FastifyReply,
  ): Promise<void> {
    await this.images.reading(name, () => this.#send(name, raw, reply))
  }

  async #send(name: string, raw: IncomingMessage, reply: FastifyReply): Promise<void> {
    const gone = closedSignal(reply.raw)
    using open = await this.trees.open(name, undefined, gone)
    let size = 0
    for await (const piece of politely(exportTree(open.tree))) {
      if (gone.aborted) break
      size += pieceLength(piece)
    }
    const etag = `${hexOf(chainIdOf(open.layers.map(({ diffId }) => diffId)))}-${FORM}`
    await sendRanged(raw, reply, {
      size,
      etag,
      type: 'application/x-tar',
      bytes: (range) => inBatches(this.#bytesOf(open, slicePieces(politely(exportTree(open.tree)), range))),
    })
  }

  async *#bytesOf({ layers, tree }: OpenTree, pieces: AsyncIterable<ExportPiece>): AsyncGenerator<Uint8Array> {
    let open: { readonly layer: number; readonly cursor: LayerCursor } | undefined
    try {
      for await (const piece of pieces) {
        if ('bytes' in piece) {
          yield piece.bytes
          continue
        }
        if (open?.layer !== piece.layer) {
          await open?.cursor[Symbol.asyncDispose]()
          open = {
            layer: piece.layer,
            cursor: this.bytes.cursor(layers[piece.layer]!, {
              until: tree.layers[piece.layer]!.tarSize,
              size: tree.layers[piece.layer]!.tarSize,
            }),
          }
        }
        yield* open.cursor.take(piece.start, piece.end)
      }
    } finally {
      await open?.cursor[Symbol.asyncDispose]()
    }
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
