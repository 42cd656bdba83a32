import { StrataError } from '@strata/base'
import { isDigest, NOT_A_DIGEST, type Digest, type Repository } from '@strata/oci'
import { z } from 'zod'
import { MAX_SERIES, seriesSchema, sizeOf, type PieceSeries } from '../blobs/blob-record.js'
import type { Lease } from '../leases/leases.js'

/** The field `request` in the record of an upload's lease. */
const uploadSchema = z.object({
  repository: z.string().max(255),
  algorithm: z.enum(['sha256', 'sha512']),
  /** What was received, in order. */
  pieces: z.array(seriesSchema).max(MAX_SERIES + 1),
  /**
   * How often a request has taken the upload over. Each of them writes its chunk under this number,
   * so no two write under one key. Absent in uploads of older versions.
   */
  takes: z.number().int().nonnegative().default(0),
  /** The saved state of the hash over all pieces. Absent if a process could not save it. */
  hash: z.object({ kind: z.string().max(100), state: z.string().max(1000) }).optional(),
  /** In the state `committing`: the digest of the blob that the upload becomes. */
  digest: z.custom<Digest>(isDigest, NOT_A_DIGEST).optional(),
})
export type UploadRecord = z.infer<typeof uploadSchema>

export function newUpload(repository: Repository, algorithm: UploadRecord['algorithm']): UploadRecord {
  return { repository, algorithm, pieces: [], takes: 0 }
}

/** The lease of an upload that a request takes over. */
export function takenOver(lease: Lease): Lease {
  const takes = lease.request['takes']
  return { ...lease, request: { ...lease.request, takes: typeof takes === 'number' ? takes + 1 : 1 } }
}

/**
 * Reads an upload from its lease.
 * @throws StrataError `upload_not_found` if the lease is of something else, or of another
 * repository
 */
export function uploadIn(
  lease: Pick<Lease, 'job' | 'request'> | undefined,
  repository: string,
  id: string,
): UploadRecord {
  const found = lease?.job.kind === 'push' ? uploadSchema.safeParse(lease.request) : undefined
  if (!found?.success || found.data.repository !== repository)
    throw new StrataError(
      'upload_not_found',
      `${repository} has no upload ${JSON.stringify(id.slice(0, 100))}: begin another one`,
    )
  return found.data
}

/** How many bytes were received. */
export function bytesOf({ pieces }: { readonly pieces: readonly PieceSeries[] }): number {
  return sizeOf(pieces)
}
