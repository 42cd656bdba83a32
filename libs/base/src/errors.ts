/**
 * The closed set of things that can be wrong, in every library and service.
 *
 * A code is stable: clients may match on it. The HTTP status of each stands in `@strata/platform`
 * (problem.ts), in one table. Messages are one clear sentence that names the thing and, where the
 * reader can act, what to do.
 *
 * A library uses the codes of the things that it knows. `not_found`, `exists` and `in_use` are for
 * things without a code of their own: a caller that knows what the thing is to its users gives the
 * error that code (`asCode`).
 */
export const ERROR_CODES = [
  // what the caller sent
  'bad_request',
  'unauthorized',
  'not_found',
  'exists',
  'in_use',
  'unsupported',
  'request_timeout',
  // archives and images
  'archive_invalid',
  'archive_truncated',
  'archive_changed',
  'descriptor_refused',
  'not_an_image',
  'digest_mismatch',
  'layer_missing',
  'layer_invalid',
  'limit_exceeded',
  'name_invalid',
  'image_not_found',
  'image_in_use',
  'image_ambiguous',
  'image_has_tags',
  // jobs and uploads
  'job_not_found',
  'job_exists',
  'job_expired',
  'cancelled',
  'upload_interrupted',
  'poisoned',
  // the registry: what is asked for under /v2/
  'repository_not_found',
  'manifest_not_found',
  'blob_not_found',
  'upload_not_found',
  'digest_invalid',
  'range_invalid',
  // other registries, which images are pulled from
  'registry_unavailable',
  'registry_denied',
  'registry_invalid',
  'address_refused',
  'hosts_invalid',
  // containers
  'container_not_found',
  'container_exists',
  'container_ambiguous',
  'container_running',
  'container_not_running',
  'nothing_to_run',
  'launch_failed',
  'command_not_found',
  'command_not_executable',
  // nodes
  'node_exists',
  'node_not_found',
  'node_in_use',
  'node_removed',
  // the machine and the services
  'overloaded',
  'queue_unavailable',
  'store_unavailable',
  'node_unavailable',
  'storage_full',
  'driver_unavailable',
  'corrupt',
  'data_newer',
  'internal',
] as const
export type ErrorCode = (typeof ERROR_CODES)[number]

/**
 * What each code means: one sentence that is true of every occurrence and quotes nothing. It is the
 * `title` of a problem (RFC 9457), and all that is said where an error's own sentence must not be.
 */
export const ERROR_TITLES: Readonly<Record<ErrorCode, string>> = {
  bad_request: 'The request is not valid',
  unauthorized: 'A token is needed',
  not_found: 'There is nothing here',
  exists: 'It exists already',
  in_use: 'It is in use',
  unsupported: 'Strata does not read this',
  request_timeout: 'The request did not come in time',
  archive_invalid: 'The archive is not valid',
  archive_truncated: 'The archive ends too early',
  archive_changed: 'The archive changed while it was read',
  descriptor_refused: 'The descriptor cannot be used: send the bytes',
  not_an_image: 'The archive holds no image',
  digest_mismatch: 'Bytes and digest do not match',
  layer_missing: 'A layer is missing',
  layer_invalid: 'A layer is not valid',
  limit_exceeded: 'A limit is exceeded',
  name_invalid: 'The name is not valid',
  image_not_found: 'No such image',
  image_in_use: 'The image is in use',
  image_ambiguous: 'The id prefix fits several images',
  image_has_tags: 'The image has several names',
  job_not_found: 'No such job',
  job_exists: 'The job id was used',
  job_expired: 'The job is no longer kept',
  cancelled: 'The job was cancelled',
  upload_interrupted: 'The upload was interrupted',
  poisoned: 'The job ended its worker each time',
  repository_not_found: 'No such repository',
  manifest_not_found: 'No such manifest',
  blob_not_found: 'No such blob',
  upload_not_found: 'No such upload',
  digest_invalid: 'The digest is not valid',
  range_invalid: 'The range does not fit',
  registry_unavailable: 'The other registry does not answer',
  registry_denied: 'The other registry refuses',
  registry_invalid: 'The answer of the other registry is not valid',
  address_refused: 'A registry leads to an address where it may not lead',
  hosts_invalid: 'The configuration of a registry host is not valid',
  container_not_found: 'No such container',
  container_exists: 'The container exists',
  container_ambiguous: 'The id prefix fits several containers',
  container_running: 'The container is running',
  container_not_running: 'The container is not running',
  nothing_to_run: 'There is nothing to run',
  launch_failed: 'The container could not be started',
  command_not_found: 'The command was not found',
  command_not_executable: 'The command cannot be run',
  node_exists: 'The node exists',
  node_not_found: 'No such node',
  node_in_use: 'The node is in use',
  node_removed: 'The node was removed',
  overloaded: 'The service has too much to do',
  queue_unavailable: 'The queue does not answer',
  store_unavailable: 'The store does not answer',
  node_unavailable: 'The node does not answer',
  storage_full: 'No space is left',
  driver_unavailable: 'A driver does not work here',
  corrupt: 'Stored data is damaged',
  data_newer: 'Stored data is of a newer release',
  internal: 'Something went wrong inside; the log of the service has the details',
}

/**
 * The one error class of the domain: a code of the closed set, one sentence, the cause if there is
 * one.
 *
 * `confidential`: the sentence may quote what a caller gave in confidence (a command, an
 * environment). It is for that caller and for the disk of the node; everyone else is told the
 * code's title (`toldToAll`).
 */
export class StrataError extends Error {
  override readonly name = 'StrataError'
  readonly confidential: boolean
  constructor(
    readonly code: ErrorCode,
    message: string,
    options: { cause?: unknown; confidential?: boolean } = {},
  ) {
    super(message, options)
    this.confidential = options.confidential ?? false
  }
}

export function isErrorCode(value: unknown): value is ErrorCode {
  return typeof value === 'string' && (ERROR_CODES as readonly string[]).includes(value)
}

/**
 * Any thrown value as a StrataError; what is not one already becomes `internal`, with the original
 * as its cause.
 */
export function asStrataError(error: unknown): StrataError {
  if (error instanceof StrataError) return error
  const message = error instanceof Error ? error.message : String(error)
  const known = error instanceof Error && 'code' in error ? MACHINE_ERRORS.get(error.code) : undefined
  if (known === undefined) return new StrataError('internal', message, { cause: error })
  const [code, what] = known
  return new StrataError(code, what === undefined ? message : `${what}: ${message}`, { cause: error })
}

/**
 * What the kernel answers when the machine is at its end, wherever that happens: the user has to
 * hear of it. An error whose meaning depends on the call (EBUSY, ENOENT, …) does not stand here:
 * the place that makes the call knows what it means.
 */
const MACHINE_ERRORS: ReadonlyMap<unknown, readonly [code: ErrorCode, what?: string]> = new Map<
  unknown,
  readonly [ErrorCode, string?]
>([
  ['ENOSPC', ['storage_full', 'no space left']],
  ['EDQUOT', ['storage_full', 'the quota of disk space is used up']],
  ['EMFILE', ['overloaded', 'the service has as many files open as it may (ulimit -n); try again later']],
  ['ENFILE', ['overloaded', 'the machine has as many files open as it may (fs.file-max); try again later']],
  ['ENOMEM', ['overloaded', 'the machine has no memory left; try again later']],
  // A file of our own that something else lies in the place of (libs/linux, own-files.ts): its
  // sentence says which and what to do.
  ['EUNUSABLE', ['corrupt']],
])

/**
 * The same error under another code, if `codes` has one for it: for the place that knows what the
 * thing is to its callers. The sentence stays.
 *
 *     throw asCode(error, { exists: 'container_exists' })
 */
export function asCode(error: unknown, codes: Partial<Readonly<Record<ErrorCode, ErrorCode>>>): unknown {
  if (!(error instanceof StrataError)) return error
  const code = codes[error.code]
  if (code === undefined) return error
  return new StrataError(code, error.message, { cause: error, confidential: error.confidential })
}

/** The same error, its sentence for its caller only. */
export function asConfidential(error: unknown): StrataError {
  const { code, message } = asStrataError(error)
  return new StrataError(code, message, { cause: error, confidential: true })
}

/** An error as it is told to somebody: what leaves a process by HTTP or through Redis. */
export interface ToldError {
  readonly code: ErrorCode
  readonly message: string
}

/**
 * How many characters of a sentence are told. A sentence may quote what a request or an archive
 * says, and that may be four megabytes of unknown keys.
 */
export const MAX_TOLD = 4_000

/**
 * What the caller of a request is told. Nothing of the inside: the words of an `internal` error are
 * for the log. A sentence of more than MAX_TOLD characters is cut, and says so.
 */
export function toldToCaller(error: ToldError): ToldError {
  const { code, message } = error
  return { code, message: code === 'internal' ? ERROR_TITLES.internal : cut(message) }
}

/** Cutting what is cut already changes nothing: a sentence goes through several processes. */
function cut(sentence: string): string {
  if (sentence.length <= MAX_TOLD) return sentence
  const end = `… (${sentence.length} characters in all)`
  // Not in the middle of a character of two units.
  return sentence.slice(0, MAX_TOLD - end.length).replace(/[\ud800-\udbff]$/, '') + end
}

/** What everyone may read: Redis, the list of jobs. Nothing that is for the caller only. */
export function toldToAll(error: unknown): ToldError {
  const known = asStrataError(error)
  return known.confidential ? { code: known.code, message: ERROR_TITLES[known.code] } : toldToCaller(known)
}
