import { asStrataError, type ErrorCode, type StrataError } from '@strata/oci'

/**
 * The one table from error codes to HTTP. `title` is the same for every occurrence (RFC 9457); the sentence of the occurrence is `detail`.
 */
export const PROBLEMS: Readonly<Record<ErrorCode, { readonly status: number; readonly title: string }>> = {
  bad_request: { status: 400, title: 'The request is not valid' },
  unauthorized: { status: 401, title: 'A token is needed' },
  not_found: { status: 404, title: 'There is nothing here' },
  unsupported: { status: 415, title: 'Strata does not read this' },
  archive_invalid: { status: 400, title: 'The archive is not valid' },
  archive_truncated: { status: 400, title: 'The archive ends too early' },
  archive_changed: { status: 409, title: 'The archive changed while it was read' },
  descriptor_refused: { status: 415, title: 'The descriptor cannot be used: send the bytes' },
  not_an_image: { status: 400, title: 'The archive holds no image' },
  digest_mismatch: { status: 400, title: 'Bytes and digest do not match' },
  layer_missing: { status: 400, title: 'A layer is missing' },
  layer_invalid: { status: 400, title: 'A layer is not valid' },
  limit_exceeded: { status: 413, title: 'A limit is exceeded' },
  name_invalid: { status: 400, title: 'The name is not valid' },
  image_not_found: { status: 404, title: 'No such image' },
  image_in_use: { status: 409, title: 'The image is in use' },
  image_ambiguous: { status: 409, title: 'The id prefix fits several images' },
  image_has_tags: { status: 409, title: 'The image has several names' },
  job_not_found: { status: 404, title: 'No such job' },
  job_exists: { status: 409, title: 'The job id was used' },
  job_expired: { status: 404, title: 'The job is no longer kept' },
  cancelled: { status: 409, title: 'The job was cancelled' },
  upload_interrupted: { status: 400, title: 'The upload was interrupted' },
  poisoned: { status: 500, title: 'The job ended its worker each time' },
  container_not_found: { status: 404, title: 'No such container' },
  container_exists: { status: 409, title: 'The container exists' },
  container_ambiguous: { status: 409, title: 'The id prefix fits several containers' },
  container_running: { status: 409, title: 'The container is running' },
  container_not_running: { status: 409, title: 'The container is not running' },
  nothing_to_run: { status: 400, title: 'There is nothing to run' },
  launch_failed: { status: 422, title: 'The container could not be started' },
  command_not_found: { status: 422, title: 'The command was not found' },
  command_not_executable: { status: 422, title: 'The command cannot be run' },
  queue_unavailable: { status: 503, title: 'The queue does not answer' },
  store_unavailable: { status: 503, title: 'The store does not answer' },
  node_unavailable: { status: 503, title: 'The node does not answer' },
  storage_full: { status: 507, title: 'No space is left' },
  driver_unavailable: { status: 500, title: 'A driver does not work here' },
  corrupt: { status: 500, title: 'Stored data is damaged' },
  internal: { status: 500, title: 'Something went wrong' },
}

export interface ProblemBody {
  readonly type: 'about:blank'
  readonly title: string
  readonly status: number
  readonly code: ErrorCode
  readonly detail: string
}
export const PROBLEM_TYPE = 'application/problem+json'

/** The answer for any thrown value. What is not one of ours tells nothing of the inside: its words go to the log only. */
export function toProblem(thrown: unknown): { body: ProblemBody; error: StrataError } {
  const error = asStrataError(thrown)
  const { status, title } = PROBLEMS[error.code]
  const detail = error.code === 'internal' ? 'something went wrong inside; the log of the service has the details' : error.message
  return { body: { type: 'about:blank', title, status, code: error.code, detail }, error }
}
