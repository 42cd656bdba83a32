import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { open, writeFile } from 'node:fs/promises'
import { pipeline } from 'node:stream/promises'
import type { Readable } from 'node:stream'
import { COMPRESSION_HEAD, decompressor, detectCompression, TarReader } from '@strata/archive'
import { IndexBuilder } from '@strata/layers'
import { digestFromHex, StrataError, type Digest } from '@strata/oci'

export interface InflateTask {
  readonly blob: Digest
  readonly diffId: Digest
  /** The file of the layer's bytes as they travel. */
  readonly source: string
  readonly tar: string
  /** Where the index is to be written; none where the store has it already. */
  readonly index: string | undefined
}

/**
 * One pass over a layer's blob: inflated, hashed as it travels and as it is inside, indexed, written once. What does not match is refused.
 * The files are the caller's to remove then.
 */
export async function inflate(task: InflateTask, source: Readable): Promise<void> {
  const travelled = createHash('sha256')
  const inside = createHash('sha256')
  const walk = task.index === undefined ? undefined : startWalk(task.index)
  const file = await open(task.tar, 'wx', 0o600)
  let size = 0
  try {
    let head: Buffer = Buffer.alloc(0)
    const pieces = source[Symbol.asyncIterator]() as AsyncIterator<Buffer>
    while (head.length < COMPRESSION_HEAD) {
      const next = await pieces.next()
      if (next.done) break
      head = Buffer.concat([head, next.value])
    }
    await pipeline(
      async function* () {
        for (let piece: Buffer = head; ; ) {
          travelled.update(piece)
          yield piece
          const next = await pieces.next()
          if (next.done) return
          piece = next.value
        }
      },
      decompressor(detectCompression(head)),
      async (plain: AsyncIterable<Buffer>) => {
        for await (const piece of plain) {
          const written = file.write(piece)
          inside.update(piece)
          walk?.reader.write(piece)
          size += piece.length
          for (let { bytesWritten } = await written; bytesWritten < piece.length; ) bytesWritten += (await file.write(piece, bytesWritten)).bytesWritten
        }
      },
    )
    const blob = digestFromHex(travelled.digest('hex'))
    if (blob !== task.blob) throw damaged(task.blob, blob)
    const diffId = digestFromHex(inside.digest('hex'))
    if (diffId !== task.diffId) throw new StrataError('digest_mismatch', `the layer ${task.blob} unpacks to ${diffId}, but the image's config lists ${task.diffId}`)
    if (walk) {
      walk.reader.end()
      await writeFile(walk.index, walk.builder.finish(size).encode(), { mode: 0o600 })
    }
  } catch (error) {
    if (!(error instanceof StrataError) || error.message.includes(task.blob)) throw error
    // What cannot be unpacked was sent so, or has changed since: only all of its bytes can tell.
    const found = await digestOfFile(task.source)
    throw found === task.blob ? new StrataError(error.code, `the layer ${task.blob}: ${error.message}`, { cause: error }) : damaged(task.blob, found)
  } finally {
    await file.close()
    source.destroy()
  }
}

function startWalk(index: string): { index: string; builder: IndexBuilder; reader: TarReader } {
  const builder = new IndexBuilder()
  return { index, builder, reader: new TarReader(builder) }
}

function damaged(blob: Digest, found: Digest): StrataError {
  return new StrataError('corrupt', `the layer ${blob} in the store is damaged: its bytes are ${found}`)
}

async function digestOfFile(path: string): Promise<Digest> {
  const hash = createHash('sha256')
  for await (const piece of createReadStream(path, { highWaterMark: 1024 * 1024 }) as AsyncIterable<Buffer>) hash.update(piece)
  return digestFromHex(hash.digest('hex'))
}
