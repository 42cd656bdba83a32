import { StrataError } from '@strata/base'

/** Answers after which the same request may succeed. */
const RETRYABLE_STATUS: readonly number[] = [408, 409, 425, 429, 500, 502, 503, 504]
// AccessDenied: MinIO answers this for a write into a folder that the delete of its last object is
// just removing (tried). A key that really has no right is refused a little later.
const RETRYABLE_CODE: readonly string[] = [
  'RequestTimeout',
  'IncompleteBody',
  'SlowDown',
  'InternalError',
  'AccessDenied',
]
/** The request never reached a server. */
const UNSENT: readonly string[] = [
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENETDOWN',
  'EHOSTDOWN',
]

/**
 * A request that failed. It stays within this folder: callers of a store get what `asStoreError`
 * makes of it.
 */
export class S3Failure extends Error {
  override readonly name = 'S3Failure'
  private constructor(
    message: string,
    /** The same request again may succeed. */
    readonly retryable: boolean,
    /** The server may have done the request all the same. */
    readonly ambiguous: boolean,
    /** The status of the answer, if there was one. */
    readonly status: number | undefined,
    /** S3's error code, as `NoSuchKey`; empty if the answer had none. */
    readonly code: string,
    options?: { cause?: unknown },
  ) {
    super(message, options)
  }

  static ofAnswer(status: number, code: string, message: string): S3Failure {
    const retryable = RETRYABLE_STATUS.includes(status) || RETRYABLE_CODE.includes(code)
    return new S3Failure(
      [`answers ${status}`, code, message].filter(Boolean).join(' '),
      retryable,
      retryable,
      status,
      code,
    )
  }

  /** The answer is missing or incomplete. */
  static ofNetwork(cause: Error): S3Failure {
    const name = 'code' in cause ? String(cause.code) : ''
    return new S3Failure(
      UNSENT.includes(name) ? `cannot be reached (${name})` : `broke off (${cause.message})`,
      true,
      !UNSENT.includes(name),
      undefined,
      '',
      { cause },
    )
  }

  /**
   * The answer is not what S3 specifies: it is from another kind of server, or from a broken one.
   */
  static ofNonsense(message: string, cause?: unknown): S3Failure {
    return new S3Failure(`gave an answer that makes no sense (${message})`, true, true, undefined, '', { cause })
  }
}

/** The object does not exist. A missing bucket is another error. */
export function isAbsent(error: unknown): boolean {
  return error instanceof S3Failure && error.status === 404 && error.code === 'NoSuchKey'
}

/** The condition of a conditional write did not hold. */
export function isPreconditionFailed(error: unknown): boolean {
  return error instanceof S3Failure && error.status === 412
}

/** The error for the store's callers. An error that is no `S3Failure` passes as it is. */
export function asStoreError(error: unknown, endpoint: string, bucket: string): unknown {
  if (!(error instanceof S3Failure)) return error
  const { status, code, message } = error
  const unavailable = (sentence: string): StrataError =>
    new StrataError('store_unavailable', sentence, { cause: error })
  if (status === 507 || /StorageFull|QuotaExceeded/.test(code))
    return new StrataError('storage_full', `the S3 server at ${endpoint} has no space left`, { cause: error })
  if (code === 'NoSuchBucket') return unavailable(`there is no bucket ${bucket} at ${endpoint}`)
  if (code === 'InvalidAccessKeyId') return unavailable(`the S3 server at ${endpoint} does not know the access key`)
  if (code === 'SignatureDoesNotMatch')
    return unavailable(`the S3 server at ${endpoint} refuses the secret key: it is not the access key's`)
  if (code === 'AccessDenied')
    return unavailable(
      `the S3 server at ${endpoint} does not let this access key use the bucket ${bucket} (${message})`,
    )
  return unavailable(`the S3 server at ${endpoint} ${message}`)
}
