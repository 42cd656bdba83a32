import { StrataError, type ErrorCode } from '@strata/base'

/** The errors that are not of one manifest: the store is away or full, the work was stopped. */
const STOPS: ReadonlySet<ErrorCode> = new Set(['store_unavailable', 'storage_full', 'upload_interrupted', 'cancelled'])

/** Whether an error is of the one manifest that was worked on, so that work on others can go on. */
export function isOfOneManifest(error: unknown): error is StrataError {
  return error instanceof StrataError && !STOPS.has(error.code)
}
