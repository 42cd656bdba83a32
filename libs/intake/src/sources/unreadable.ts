import { StrataError } from '@strata/base'

/** What the kernel says of an archive's file is the caller's to know: it is no fault of ours. */
export function unreadable(error: unknown): StrataError {
  return new StrataError('upload_interrupted', `the archive cannot be read: ${(error as Error).message}`, {
    cause: error,
  })
}
