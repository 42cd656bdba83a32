import type { LogChunk } from '@strata/containers'

/**
 * docker's frames (Engine API, "attach", stream format): byte 0 the stream, bytes 4 to 7 the
 * length, big-endian, then the bytes.
 */
export async function* framed(chunks: AsyncIterable<LogChunk>): AsyncGenerator<Buffer> {
  for await (const { stream, bytes } of chunks) {
    const head = Buffer.alloc(8)
    head[0] = stream
    head.writeUInt32BE(bytes.length, 4)
    yield head
    yield bytes
  }
}

export async function* bare(chunks: AsyncIterable<LogChunk>): AsyncGenerator<Buffer> {
  for await (const { bytes } of chunks) yield bytes
}
