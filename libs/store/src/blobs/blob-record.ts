import { isDiffId, type DiffId } from '@strata/oci'
import { z } from 'zod'
import { leaseInKey } from '../keys.js'

/**
 * A blob's bytes lie in at most this many objects. With the longest id of a lease, a key has 106
 * characters. So 1,000 pieces take 150 KiB of the 256 KiB that a record may have. The rest is room
 * for 1,500 holds.
 */
export const MAX_PIECES = 1_000

const pieceSchema = z.object({
  /** Key of its bytes. */
  data: z.string().max(1024),
  /** In bytes. */
  size: z.number().int().nonnegative(),
})
/** One of the ordered objects that hold a blob's bytes. */
export type Piece = Readonly<z.infer<typeof pieceSchema>>

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
    pieces: z.array(pieceSchema).min(2).max(MAX_PIECES),
    ...common,
  })
  .refine(({ pieces, size }) => sizeOf(pieces) === size, 'its pieces have another size than the blob')

/** A blob's record. Its bytes are in one object, or in several: `piecesOf` is the same for both. */
export const blobRecordSchema = z.union([inOneObject, inPieces])
export type BlobRecord = z.infer<typeof blobRecordSchema>

/** Where a blob's bytes are. */
type BlobBytes = { readonly data: string } | { readonly pieces: readonly Piece[] }

/** Bytes whose digest the caller has verified. They lie under `data/` keys of its lease. */
export type ProvenData = BlobBytes & { readonly size: number; readonly diffId?: DiffId }

/** The objects that a blob's bytes are in, in order: at least one. */
export function piecesOf(blob: BlobBytes & { readonly size: number }): readonly Piece[] {
  return 'pieces' in blob ? blob.pieces : [{ data: blob.data, size: blob.size }]
}

/** The lease that has written the bytes. */
export function makerOf(record: BlobRecord): string | undefined {
  return leaseInKey(piecesOf(record)[0]?.data ?? '')
}

/** In bytes. */
export function sizeOf(pieces: readonly Piece[]): number {
  return pieces.reduce((sum, { size }) => sum + size, 0)
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
export function pieceRanges(pieces: readonly Piece[], start: number, end: number): PieceRange[] {
  const ranges: PieceRange[] = []
  let at = 0
  for (const piece of pieces) {
    const [from, to] = [Math.max(start - at, 0), Math.min(end - at, piece.size)]
    if (from < to) ranges.push({ piece, start: from, end: to })
    at += piece.size
  }
  return ranges
}
