import { z } from 'zod'
import { ERROR_CODES, StrataError } from '@strata/base'
import { isDiffId, isDigest, type DiffId, type Digest } from '@strata/oci'

/**
 * Where bytes lie: an object of the store, and the first byte's offset in it. Files are read as
 * `[offset, offset + size)`.
 */
const placeSchema = z.object({ object: z.string(), offset: z.number().int().nonnegative() })

const archiveEntrySchema = z.object({
  /**
   * The entry's name as written, its bytes decoded as latin1, so that every byte string has one
   * text and back.
   */
  name: z.string(),
  type: z.enum(['file', 'symlink', 'hardlink', 'directory', 'other']),
  /** Bytes of the file; 0 for everything else. */
  size: z.number().int().nonnegative().max(Number.MAX_SAFE_INTEGER),
  /** The target of a link, as written, latin1. */
  link: z.string().optional(),
  /** Of a file's bytes, computed in flight: sha512 where its name says so (`blobs/sha512/…`). */
  digest: z.custom<Digest>(isDigest).optional(),
  /** How a file's bytes are packed, by its first bytes. */
  compression: z.enum(['none', 'gzip', 'zstd']).optional(),
  /** Set where the file is a plain tar that was walked and indexed in flight. */
  diffId: z.custom<DiffId>(isDiffId).optional(),
  /**
   * Why the file, which looked like a layer, cannot be one. It is the image's error only if an
   * image has this layer.
   */
  layerError: z.object({ code: z.enum(ERROR_CODES), message: z.string() }).optional(),
  at: placeSchema.optional(),
})

/**
 * What came in an outer archive, in its order: written by the intake while the bytes arrive, read
 * by `resolveArchive`.
 */
const archiveListingSchema = z.object({ entries: z.array(archiveEntrySchema) })

type ArchivePlace = z.infer<typeof placeSchema>
export type ArchiveEntry = z.infer<typeof archiveEntrySchema>
export type ArchiveListing = z.infer<typeof archiveListingSchema>

/** A file of the archive: known by its digest, found at its place. */
export interface BlobSource {
  readonly digest: Digest
  readonly size: number
  readonly at: ArchivePlace
}

/** Bytes that are in no archive: made of what is in one. */
export interface MadeBlob {
  readonly digest: Digest
  readonly size: number
  readonly bytes: Buffer
}

/** A blob that the archive names and leaves out, and the store has. */
export interface KeptBlob {
  readonly digest: Digest
  readonly size: number
  readonly kept: true
}

/** The listing back from its bytes. Not what `encodeListing` writes: `corrupt`. */
export function decodeListing(bytes: Uint8Array): ArchiveListing {
  try {
    return archiveListingSchema.parse(
      JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8')),
    )
  } catch (error) {
    throw new StrataError('corrupt', 'the list of an upload’s entries cannot be read', { cause: error })
  }
}
