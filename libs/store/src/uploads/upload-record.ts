import { StrataError } from '@strata/base'
import { isDigest, NOT_A_DIGEST, type Digest, type Repository } from '@strata/oci'
import { z } from 'zod'
import { MAX_PIECES, sizeOf, type Piece } from '../blobs/blob-record.js'
import type { Lease } from '../leases/leases.js'

/** What the record of an upload's lease says, in `request`. */
const uploadSchema = z.object({
  repository: z.string().max(255),
  algorithm: z.enum(['sha256', 'sha512']),
  /** What has come, in order. */
  pieces: z.array(z.object({ data: z.string().max(1024), size: z.number().int().nonnegative() })).max(MAX_PIECES + 1),
  /** Of all of it. Absent if this process or an earlier one could not save it. */
  hash: z.object({ kind: z.string().max(100), state: z.string().max(1000) }).optional(),
  /** In the state `committing`: what it is. */
  digest: z.custom<Digest>(isDigest, NOT_A_DIGEST).optional(),
})
export type UploadRecord = z.infer<typeof uploadSchema>

export function newUpload(repository: Repository, algorithm: UploadRecord['algorithm']): UploadRecord {
  return { repository, algorithm, pieces: [] }
}

/**
 * @throws StrataError `upload_not_found` if the lease is of something else, or of another
 * repository
 */
export function uploadIn(
  lease: Pick<Lease, 'job' | 'request'> | undefined,
  repository: Repository,
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

/** How many bytes have come. */
export function bytesOf({ pieces }: { readonly pieces: readonly Piece[] }): number {
  return sizeOf(pieces)
}
