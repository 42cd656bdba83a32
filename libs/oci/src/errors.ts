/**
 * The closed set of things that can be wrong, in every library and service.
 *
 * A code is stable: clients may match on it. The HTTP status of each stands in `@strata/platform` (problem.ts), in one table.
 * Messages are one clear sentence that names the thing and, where the reader can act, what to do.
 */
export const ERROR_CODES = [
  // what the caller sent
  'bad_request', 'unauthorized', 'not_found', 'unsupported',
  // archives and images
  'archive_invalid', 'archive_truncated', 'archive_changed', 'descriptor_refused', 'not_an_image', 'digest_mismatch', 'layer_missing', 'layer_invalid', 'limit_exceeded', 'name_invalid',
  'image_not_found', 'image_in_use', 'image_ambiguous', 'image_has_tags',
  // jobs and uploads
  'job_not_found', 'job_exists', 'job_expired', 'cancelled', 'upload_interrupted', 'poisoned',
  // containers
  'container_not_found', 'container_exists', 'container_ambiguous', 'container_running', 'container_not_running', 'nothing_to_run', 'launch_failed', 'command_not_found', 'command_not_executable',
  // the machine and the services
  'queue_unavailable', 'store_unavailable', 'node_unavailable', 'storage_full', 'driver_unavailable', 'corrupt', 'internal',
] as const
export type ErrorCode = (typeof ERROR_CODES)[number]

/** The one error class of the domain: a code of the closed set, one sentence, the cause if there is one. */
export class StrataError extends Error {
  override readonly name = 'StrataError'
  constructor(readonly code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options)
  }
}

export function isErrorCode(value: unknown): value is ErrorCode {
  return typeof value === 'string' && (ERROR_CODES as readonly string[]).includes(value)
}

/** Any thrown value as a StrataError; what is not one already becomes `internal`, with the original as its cause. */
export function asStrataError(error: unknown): StrataError {
  if (error instanceof StrataError) return error
  const message = error instanceof Error ? error.message : String(error)
  if (error instanceof Error && 'code' in error && error.code === 'ENOSPC') return new StrataError('storage_full', `no space left: ${message}`, { cause: error })
  return new StrataError('internal', message, { cause: error })
}
