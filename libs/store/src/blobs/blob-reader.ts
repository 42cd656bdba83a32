import type { FileHandle } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { StrataError } from '@strata/base'
import type { Digest } from '@strata/oci'
import { keys } from '../keys.js'
import { checkRange } from '../objects/byte-range.js'
import { lentChunks } from '../objects/lent-chunks.js'
import { localObjects, type ByteRange, type ObjectStore } from '../objects/object-store.js'
import type { Records } from '../records.js'
import { firstOf, pieceRanges, seriesOf, type BlobRecord, type Piece, type PieceRange } from './blob-record.js'
import { JoinedBody } from './joined-body.js'

/**
 * A part of an open file: the bytes from `start` to `end`, exclusive. Lent: the file is closed when
 * its reader asks for the next part.
 */
export interface FilePart {
  readonly file: FileHandle
  readonly start: number
  readonly end: number
}

type InPieces = Extract<BlobRecord, { readonly pieces: unknown }>

/** Reads the bytes of blobs, from the one object or the pieces that a blob's record names. */
export class BlobReader {
  constructor(
    private readonly store: ObjectStore,
    private readonly records: Records<BlobRecord>,
  ) {}

  /** @throws StrataError `not_found`; `corrupt` if the blob's record is damaged */
  async open(
    digest: Digest,
    range?: ByteRange,
    known?: BlobRecord,
  ): Promise<{ readonly size: number; readonly body: Readable }> {
    const { size, body } = await this.#readFrom(
      digest,
      (record) => ('pieces' in record ? this.#openPieces(digest, record, range) : this.store.get(record.data, range)),
      known,
    )
    return { size, body }
  }

  /**
   * The blob's bytes of a range, in order: as parts of files if the store's objects are files of
   * this machine, else as bytes. Each is lent until the next one is asked for. The first one that
   * is given shows that the blob is there.
   * @throws StrataError as `open`, and as its body
   */
  async *parts(digest: Digest, range: ByteRange, known?: BlobRecord): AsyncGenerator<Uint8Array | FilePart> {
    const local = localObjects(this.store)
    if (!local) {
      yield* lentChunks((await this.open(digest, range, known)).body)
      return
    }
    checkRange(range)
    const open = async ({ piece, start, end }: PieceRange): Promise<FilePart | undefined> => {
      const opened = await local.openLocal(piece.data)
      if (!opened) return undefined
      if (opened.size === piece.size) return { file: opened.file, start, end }
      await opened.file.close()
      throw damaged(digest, piece, opened.size)
    }
    const begun = await this.#readFrom(
      digest,
      async (record) => {
        // Not as a list: a blob may have 100,000 pieces, and a client may be slow.
        const ranges = pieceRanges(seriesOf(record), range.start, range.end)
        const first = ranges.next()
        const part = first.done ? undefined : await open(first.value)
        return !first.done && !part ? undefined : { part, ranges }
      },
      known,
    )
    for (let { part } = begun; part;) {
      try {
        yield part
      } finally {
        await part.file.close()
      }
      const next = begun.ranges.next()
      part = next.done ? undefined : await open(next.value)
      if (!next.done && !part) throw goneMeanwhile(digest)
    }
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
   * again with the new record. `known` is the record as the caller has read it.
   * @throws StrataError `not_found`; `corrupt` if the record is damaged
   */
  async #readFrom<T>(
    digest: Digest,
    read: (record: BlobRecord) => Promise<T | undefined>,
    known?: BlobRecord,
  ): Promise<T> {
    for (let last: string | undefined; ;) {
      const record = last === undefined && known ? known : await this.records.read(keys.blob(digest))
      const first = record && firstOf(record)
      if (!record || first === last) throw absent(digest)
      const found = await read(record)
      if (found) return found
      last = first
    }
  }

  async #openPieces(
    digest: Digest,
    record: InPieces,
    range: ByteRange | undefined,
  ): Promise<{ readonly size: number; readonly body: Readable } | undefined> {
    if (range) checkRange(range)
    const { size, pieces } = record
    const ranges = pieceRanges(pieces, range?.start ?? 0, Math.min(range?.end ?? size, size))
    const first = ranges.next()
    if (first.done)
      return (await this.store.stat(pieces[0]!.data)) && { size, body: Readable.from([], { objectMode: false }) }
    const open = async ({ piece, start, end }: PieceRange): Promise<Readable | undefined> => {
      const object = await this.store.get(piece.data, { start, end })
      if (!object || object.size === piece.size) return object?.body
      object.body.destroy()
      throw damaged(digest, piece, object.size)
    }
    const body = await open(first.value)
    if (!body) return undefined
    const next = async (): Promise<Readable | undefined> => {
      const range = ranges.next()
      if (range.done) return undefined
      const body = await open(range.value)
      if (!body) throw goneMeanwhile(digest)
      return body
    }
    return { size, body: new JoinedBody(body, next) }
  }

  async #readPieces(
    digest: Digest,
    record: InPieces,
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

function damaged(digest: Digest, piece: Piece, found: number): StrataError {
  return new StrataError(
    'corrupt',
    `the blob ${digest} in the store is damaged: ${piece.data} has ${found} bytes of ${piece.size}`,
  )
}

function goneMeanwhile(digest: Digest): StrataError {
  return new StrataError('store_unavailable', `the blob ${digest} was deleted or replaced while it was read`)
}

/** The error that a blob is not in the store. It is returned, not thrown. */
export function absent(digest: Digest): StrataError {
  return new StrataError('not_found', `blob ${digest} is not in the store`)
}
