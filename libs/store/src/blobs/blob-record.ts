import { isDiffId, type DiffId } from '@strata/oci'
import { z } from 'zod'
import { leaseInKey } from '../keys.js'

/**
 * In so many objects may a blob's bytes lie. A lease's longest id makes keys of 106 characters, and
 * 1,000 pieces 150 KiB of the 256 KiB that a record may have. The rest is room for 1,500 holds.
 */
export const MAX_PIECES = 1_000

const pieceSchema = z.object({
  /** Key of its bytes. */
  data: z.string().max(1024),
  /** In bytes. */
  size: z.number().int().nonnegative(),
})
/** One of the objects that a blob's bytes lie in, one behind the other. */
export type Piece = Readonly<z.infer<typeof pieceSchema>>

const common = {
  /** Of the blob as it travels, in bytes. */
  size: z.number().int().nonnegative(),
  /** Of a layer: the digest of its uncompressed tar, once that is proven. */
  diffId: z.custom<DiffId>(isDiffId, 'not a sha256 digest').optional(),
  /** The leases that count on it. Ended ones may still be named; only live ones matter. */
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

/** Bytes that the caller has proven to have a digest, under `data/` keys of its lease. */
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
interface PieceRange {
  readonly piece: Piece
  /** Bytes of the piece, `end` exclusive. */
  readonly start: number
  readonly end: number
}

/** What the bytes from `start` to `end` of the blob are in, in order; nothing if there are none. */
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
