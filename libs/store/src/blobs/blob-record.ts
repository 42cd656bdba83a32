import { isDiffId, type DiffId } from '@strata/oci'
import { z } from 'zod'
import { laterDataKey, leaseInKey } from '../keys.js'

/** A blob's bytes lie in at most this many objects. */
export const MAX_PIECES = 100_000
/**
 * A record names its pieces in at most this many series. With the longest id of a lease, a key has
 * 106 characters. So 1,000 series take 150 KiB of the 256 KiB that a record may have. The rest is
 * room for 1,500 holds.
 */
export const MAX_SERIES = 1_000

/** One of the ordered objects that hold a blob's bytes. */
export interface Piece {
  /** Key of its bytes. */
  readonly data: string
  /** In bytes. */
  readonly size: number
}

/**
 * A piece, or `count` pieces of one size, whose keys have numbers that follow one another
 * (`numberedDataKey`): `data` is the first one. A client sends chunks of one size, so a record
 * names very many of them in few bytes.
 */
export const seriesSchema = z
  .object({
    data: z.string().max(1024),
    size: z.number().int().nonnegative(),
    count: z.number().int().min(2).max(MAX_PIECES).optional(),
  })
  .refine(({ data, count }) => count === undefined || laterDataKey(data, 1) !== undefined, 'its key has no number')
export type PieceSeries = Readonly<z.infer<typeof seriesSchema>>

const common = {
  /** Of the blob as it travels, in bytes. */
  size: z.number().int().nonnegative(),
  /** Only of a layer: the digest of its uncompressed tar, after it was verified. */
  diffId: z.custom<DiffId>(isDiffId, 'not a sha256 digest').optional(),
  /** The leases that hold it. Ended leases may still be in the list; only live ones matter. */
  holders: z.array(z.string().max(64)),
  /** The record does not count yet: see `BlobStore`, "in two steps". */
  pending: z.literal(true).optional(),
}
const inOneObject = z.object({
  /** Key of the bytes. */
  data: z.string().max(1024),
  ...common,
})
const inPieces = z
  .object({
    /** In the order of the bytes. All of them were written by one lease. */
    pieces: z.array(seriesSchema).min(1).max(MAX_SERIES),
    ...common,
  })
  .refine(({ pieces, size }) => sizeOf(pieces) === size, 'its pieces have another size than the blob')
  .refine(({ pieces }) => countOf(pieces) > 1 && countOf(pieces) <= MAX_PIECES, 'it has one piece, or too many')

/** A blob's record. Its bytes are in one object, or in several: `piecesOf` is the same for both. */
export const blobRecordSchema = z.union([inOneObject, inPieces])
export type BlobRecord = z.infer<typeof blobRecordSchema>

/** Where a blob's bytes are. */
type BlobBytes = { readonly data: string } | { readonly pieces: readonly PieceSeries[] }

/** Bytes whose digest the caller has verified. They lie under `data/` keys of its lease. */
export type ProvenData = BlobBytes & { readonly size: number; readonly diffId?: DiffId }

/** The objects that a blob's bytes are in, in order: at least one. */
export function piecesOf(blob: BlobBytes & { readonly size: number }): readonly Piece[] {
  return eachPiece(seriesOf(blob))
}

/** The same, as a record names them. */
export function seriesOf(blob: BlobBytes & { readonly size: number }): readonly PieceSeries[] {
  return 'pieces' in blob ? blob.pieces : [{ data: blob.data, size: blob.size }]
}

export function eachPiece(pieces: readonly PieceSeries[]): Piece[] {
  return pieces.flatMap(({ data, size, count = 1 }) =>
    Array.from({ length: count }, (_, at) => ({ data: laterDataKey(data, at) ?? data, size })),
  )
}

/** The key of the first of these objects. */
export function firstOf(blob: BlobBytes): string | undefined {
  return 'pieces' in blob ? blob.pieces[0]?.data : blob.data
}

/** The lease that has written the bytes. */
export function makerOf(record: BlobRecord): string | undefined {
  return leaseInKey(firstOf(record) ?? '')
}

/** In bytes. */
export function sizeOf(pieces: readonly PieceSeries[]): number {
  return pieces.reduce((sum, { size, count = 1 }) => sum + size * count, 0)
}

export function countOf(pieces: readonly PieceSeries[]): number {
  return pieces.reduce((sum, { count = 1 }) => sum + count, 0)
}

/** With one more piece: the last series gets longer, or there is another one. */
export function withPiece(pieces: readonly PieceSeries[], piece: Piece): PieceSeries[] {
  const last = pieces.at(-1)
  const count = last?.count ?? 1
  return last?.size === piece.size && laterDataKey(last.data, count) === piece.data
    ? [...pieces.slice(0, -1), { ...last, count: count + 1 }]
    : [...pieces, piece]
}

/** The part of a piece that a range of the blob covers. */
export interface PieceRange {
  readonly piece: Piece
  /** Bytes of the piece, `end` exclusive. */
  readonly start: number
  readonly end: number
}

/**
 * The parts of the pieces that hold the blob's bytes from `start` to `end` (exclusive), in order.
 */
export function* pieceRanges(pieces: readonly PieceSeries[], start: number, end: number): Generator<PieceRange> {
  let at = 0
  for (const { data, size, count = 1 } of pieces) {
    const first = size === 0 ? count : Math.max(Math.floor((start - at) / size), 0)
    for (let n = first; n < count && at + n * size < end; n++) {
      const begin = at + n * size
      const piece = { data: laterDataKey(data, n) ?? data, size }
      yield { piece, start: Math.max(start - begin, 0), end: Math.min(end - begin, size) }
    }
    at += size * count
  }
}
