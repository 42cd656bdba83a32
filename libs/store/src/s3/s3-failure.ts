import { StrataError } from '@strata/base'

/** Answers after which the same request may succeed. */
const RETRYABLE_STATUS: readonly number[] = [408, 409, 425, 429, 500, 502, 503, 504]
// AccessDenied: so MinIO tells of a write into a folder that a delete of its last object is just
// taking away (tried). Who really has no right is told a little later.
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
 * One request that came to no good end. Stays within this folder: `asStoreError` is what callers of
 * a store see.
 */
export class S3Failure extends Error {
  override readonly name = 'S3Failure'
  private constructor(
    message: string,
    /** The same request again may succeed. */
    readonly retryable: boolean,
    /** The server may have done what was asked all the same. */
    readonly ambiguous: boolean,
    /** Of the answer, if there was one. */
    readonly status: number | undefined,
    /** S3's name for what is wrong, `NoSuchKey`; empty if it gave none. */
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

  /** No answer, or half of one. */
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

  /** An answer that is not what S3 says it must be: another server's, or a broken one. */
  static ofNonsense(message: string, cause?: unknown): S3Failure {
    return new S3Failure(`gave an answer that makes no sense (${message})`, true, true, undefined, '', { cause })
  }
}

/** What `NoSuchKey` says. A bucket that is missing is another thing. */
export function isAbsent(error: unknown): boolean {
  return error instanceof S3Failure && error.status === 404 && error.code === 'NoSuchKey'
}

/** The condition of a conditional write did not hold. */
export function isPreconditionFailed(error: unknown): boolean {
  return error instanceof S3Failure && error.status === 412
}

/** As the store's callers are told. Errors that are no `S3Failure` are theirs already. */
export function asStoreError(error: unknown, endpoint: string, bucket: string): unknown {
  if (!(error instanceof S3Failure)) return error
  const { status, code, message } = error
  const told = (sentence: string): StrataError => new StrataError('store_unavailable', sentence, { cause: error })
  if (status === 507 || /StorageFull|QuotaExceeded/.test(code))
    return new StrataError('storage_full', `the S3 server at ${endpoint} has no space left`, { cause: error })
  if (code === 'NoSuchBucket') return told(`there is no bucket ${bucket} at ${endpoint}`)
  if (code === 'InvalidAccessKeyId') return told(`the S3 server at ${endpoint} does not know the access key`)
  if (code === 'SignatureDoesNotMatch')
    return told(`the S3 server at ${endpoint} refuses the secret key: it is not the access key's`)
  if (code === 'AccessDenied')
    return told(`the S3 server at ${endpoint} does not let this access key use the bucket ${bucket} (${message})`)
  return told(`the S3 server at ${endpoint} ${message}`)
}
