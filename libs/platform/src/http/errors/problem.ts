import { asStrataError, ERROR_TITLES, toldToCaller, type ErrorCode, type StrataError } from '@strata/base'

/**
 * The one table from error codes to HTTP. An answer's `title` is the code's; the sentence of the
 * occurrence is `detail` (RFC 9457).
 */
export const PROBLEMS: Readonly<Record<ErrorCode, { readonly status: number }>> = {
  bad_request: { status: 400 },
  unauthorized: { status: 401 },
  not_found: { status: 404 },
  exists: { status: 409 },
  in_use: { status: 409 },
  unsupported: { status: 415 },
  request_timeout: { status: 408 },
  archive_invalid: { status: 400 },
  archive_truncated: { status: 400 },
  archive_changed: { status: 409 },
  descriptor_refused: { status: 415 },
  not_an_image: { status: 400 },
  digest_mismatch: { status: 400 },
  layer_missing: { status: 400 },
  layer_invalid: { status: 400 },
  limit_exceeded: { status: 413 },
  name_invalid: { status: 400 },
  image_not_found: { status: 404 },
  image_in_use: { status: 409 },
  image_ambiguous: { status: 409 },
  image_has_tags: { status: 409 },
  job_not_found: { status: 404 },
  job_exists: { status: 409 },
  job_expired: { status: 404 },
  cancelled: { status: 409 },
  upload_interrupted: { status: 400 },
  poisoned: { status: 500 },
  repository_not_found: { status: 404 },
  manifest_not_found: { status: 404 },
  blob_not_found: { status: 404 },
  upload_not_found: { status: 404 },
  digest_invalid: { status: 400 },
  range_invalid: { status: 416 },
  registry_unavailable: { status: 503 },
  registry_denied: { status: 403 },
  registry_invalid: { status: 502 },
  address_refused: { status: 403 },
  hosts_invalid: { status: 500 },
  container_not_found: { status: 404 },
  container_exists: { status: 409 },
  container_ambiguous: { status: 409 },
  container_running: { status: 409 },
  container_not_running: { status: 409 },
  nothing_to_run: { status: 400 },
  launch_failed: { status: 422 },
  command_not_found: { status: 422 },
  command_not_executable: { status: 422 },
  node_exists: { status: 409 },
  node_not_found: { status: 404 },
  node_in_use: { status: 409 },
  node_removed: { status: 409 },
  overloaded: { status: 503 },
  queue_unavailable: { status: 503 },
  store_unavailable: { status: 503 },
  node_unavailable: { status: 503 },
  storage_full: { status: 507 },
  driver_unavailable: { status: 500 },
  corrupt: { status: 500 },
  data_newer: { status: 500 },
  internal: { status: 500 },
}

/**
 * Headers of an answer that say when to ask again: what was refused because others take the room
 * has room in a moment.
 */
export function retryHeaders(code: ErrorCode): Readonly<Record<string, string>> {
  return code === 'overloaded' ? { 'retry-after': '1' } : {}
}

export interface ProblemBody {
  readonly type: 'about:blank'
  readonly title: string
  readonly status: number
  readonly code: ErrorCode
  readonly detail: string
}
export const PROBLEM_TYPE = 'application/problem+json'

/**
 * The answer for any thrown value. What is not one of ours tells nothing of the inside: its words
 * go to the log only.
 */
export function toProblem(thrown: unknown): { body: ProblemBody; error: StrataError } {
  const error = asStrataError(thrown)
  const { status } = PROBLEMS[error.code]
  const { code, message } = toldToCaller(error)
  return { body: { type: 'about:blank', title: ERROR_TITLES[code], status, code, detail: message }, error }
}
