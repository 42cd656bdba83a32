import { Readable } from 'node:stream'
import { StrataError } from '@strata/base'
import type { Digest } from '@strata/oci'
import { keys } from '../keys.js'
import { checkRange } from '../objects/byte-range.js'
import type { ByteRange, ObjectStore } from '../objects/object-store.js'
import type { Records } from '../records.js'
import { pieceRanges, piecesOf, type BlobRecord } from './blob-record.js'
import { JoinedBody } from './joined-body.js'

/** Reads the bytes of blobs, from the one object or the pieces that a blob's record names. */
export class BlobReader {
  constructor(
    private readonly store: ObjectStore,
    private readonly records: Records<BlobRecord>,
  ) {}

  /** @throws StrataError `not_found`; `corrupt` if the blob's record is damaged */
  async open(digest: Digest, range?: ByteRange): Promise<{ readonly size: number; readonly body: Readable }> {
    const { size, body } = await this.#readFrom(digest, (record) =>
      'pieces' in record ? this.#openPieces(digest, record, range) : this.store.get(record.data, range),
    )
    return { size, body }
  }

  /** @throws StrataError `not_found`, `limit_exceeded`, `corrupt` */
  async read(digest: Digest, maxBytes: number): Promise<Buffer> {
    const { bytes } = await this.#readFrom(digest, (record) =>
      'pieces' in record ? this.#readPieces(digest, record, maxBytes) : this.store.read(record.data, maxBytes),
    )
    return bytes
  }

  /**
   * Reads the blob's record, calls `read` with it, and gives what that gives. If another process
   * replaces the record and deletes its bytes in between, `read` finds nothing. Then this begins
   * again with the new record.
   * @throws StrataError `not_found`; `corrupt` if the record is damaged
   */
  async #readFrom<T>(digest: Digest, read: (record: BlobRecord) => Promise<T | undefined>): Promise<T> {
    for (let last: string | undefined; ;) {
      const record = await this.records.read(keys.blob(digest))
      const first = record && piecesOf(record)[0]?.data
      if (!record || first === last) throw absent(digest)
      const found = await read(record)
      if (found) return found
      last = first
    }
  }

  async #openPieces(
    digest: Digest,
    record: BlobRecord,
    range: ByteRange | undefined,
  ): Promise<{ readonly size: number; readonly body: Readable } | undefined> {
    if (range) checkRange(range)
    const { size } = record
    const pieces = piecesOf(record)
    const [first, ...rest] = pieceRanges(pieces, range?.start ?? 0, Math.min(range?.end ?? size, size))
    if (!first)
      return (await this.store.stat(pieces[0]!.data)) && { size, body: Readable.from([], { objectMode: false }) }
    const open = async ({ piece, start, end }: typeof first): Promise<Readable | undefined> => {
      const object = await this.store.get(piece.data, { start, end })
      if (!object || object.size === piece.size) return object?.body
      object.body.destroy()
      throw new StrataError(
        'corrupt',
        `the blob ${digest} in the store is damaged: ${piece.data} has ${object.size} bytes of ${piece.size}`,
      )
    }
    const body = await open(first)
    if (!body) return undefined
    const next = async (): Promise<Readable | undefined> => {
      const range = rest.shift()
      const body = range && (await open(range))
      if (range && !body)
        throw new StrataError('store_unavailable', `the blob ${digest} was deleted or replaced while it was read`)
      return body
    }
    return { size, body: new JoinedBody(body, next) }
  }

  async #readPieces(
    digest: Digest,
    record: BlobRecord,
    maxBytes: number,
  ): Promise<{ readonly bytes: Buffer } | undefined> {
    if (record.size > maxBytes)
      throw new StrataError(
        'limit_exceeded',
        `the blob ${digest} has ${record.size} bytes; at most ${maxBytes} are read`,
      )
    const found = await this.#openPieces(digest, record, undefined)
    return found && { bytes: Buffer.concat((await found.body.toArray()) as Buffer[]) }
  }
}

/** The error that a blob is not in the store. It is returned, not thrown. */
export function absent(digest: Digest): StrataError {
  return new StrataError('not_found', `blob ${digest} is not in the store`)
}
