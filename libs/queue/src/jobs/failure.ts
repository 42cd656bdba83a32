import { isErrorCode, StrataError, toldToAll } from '@strata/base'

/**
 * A job's failure as it travels through Redis, where everyone may read it: code and sentence as
 * JSON in BullMQ's `failedReason`.
 */
export function encodeFailure(error: unknown): string {
  return JSON.stringify(toldToAll(error))
}

/**
 * Anything else that a failed job may carry (BullMQ's own words) becomes `poisoned` or `internal`.
 */
export function decodeFailure(reason: string): StrataError {
  try {
    const value: unknown = JSON.parse(reason)
    if (
      typeof value === 'object' &&
      value !== null &&
      'code' in value &&
      'message' in value &&
      isErrorCode(value.code)
    ) {
      return new StrataError(value.code, String(value.message))
    }
  } catch {
    // BullMQ's own reasons are plain text.
  }
  if (reason.includes('stalled more than'))
    return new StrataError('poisoned', 'the job killed or froze its worker each time it was tried')
  return new StrataError('internal', reason)
}
