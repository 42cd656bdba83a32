import { StrataError } from '@strata/base'
import { countOf, MAX_PIECES, MAX_SERIES } from '../blobs/blob-record.js'
import { bytesOf, type UploadRecord } from './upload-record.js'

/** An upload may have so many chunks however small they are … */
const SMALL_CHUNKS = 1_000
/** … and one more for each of these bytes. */
const CHUNK_BYTES = 64 * 1024

/**
 * A pull opens each chunk. So an upload has at most 1,000 chunks, one more for each 64 KiB that
 * came, and as many as a record can name.
 */
export function hasAllChunks({ pieces }: UploadRecord): boolean {
  const most = Math.min(SMALL_CHUNKS + Math.floor(bytesOf({ pieces }) / CHUNK_BYTES), MAX_PIECES)
  return countOf(pieces) >= most || pieces.length >= MAX_SERIES
}

export function tooManyChunks({ pieces }: UploadRecord): StrataError {
  return new StrataError(
    'limit_exceeded',
    `the upload has ${countOf(pieces)} chunks with ${bytesOf({ pieces })} bytes, of ${pieces.length} sizes one after the other; it may have ${SMALL_CHUNKS} small ones, others of ${CHUNK_BYTES} bytes or more up to ${MAX_PIECES}, and ${MAX_SERIES} sizes: begin another one, and send larger chunks of one size`,
  )
}
