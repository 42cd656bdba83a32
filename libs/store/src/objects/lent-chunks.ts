import type { Readable } from 'node:stream'

/**
 * A body that can lend its bytes instead of giving them away. That is twice as fast from an S3
 * server: a network that is read into memory that is used again costs no new memory to clear.
 */
export interface Lender {
  /**
   * The body's bytes in chunks that are lent: when the next one is asked for, or the iteration
   * ends, the memory of the last one has other bytes. It is called instead of reading the stream,
   * and once. If the iteration is left early, the body is destroyed. If the body is destroyed, the
   * iteration throws its error.
   */
  lend(): AsyncIterable<Buffer>
}

/**
 * A body's bytes, lent if the body can do that. Its user is done with a chunk, also with what it
 * gave to a file or a socket, before it asks for the next.
 */
export function lentChunks(body: Readable): AsyncIterable<Buffer> {
  return 'lend' in body ? (body as Readable & Lender).lend() : (body as AsyncIterable<Buffer>)
}
