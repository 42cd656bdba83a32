import { StrataError } from '@strata/base'
import type { ByteRange } from './object-store.js'

/** @throws StrataError `bad_request` unless both are whole numbers and 0 <= start <= end */
export function checkRange(range: ByteRange): void {
  const { start, end } = range
  if (!(Number.isSafeInteger(start) && Number.isSafeInteger(end) && 0 <= start && start <= end))
    throw new StrataError('bad_request', `${start} to ${end} is not a range of bytes`)
}
