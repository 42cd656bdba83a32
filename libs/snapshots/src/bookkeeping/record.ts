import { readOwnJson, UnusableFile } from '@strata/linux'
import { isDigest, type DiffId } from '@strata/oci'

/** Far more than any real record: a root of ten thousand layers names each of them with its tar. */
const MAX_BYTES = 16 * 2 ** 20

/**
 * Reads a small JSON file of ours. `undefined` if it is absent or damaged. After a loss of power a
 * file that was renamed into place may be empty; then its root or snapshot counts as not made.
 */
export function readRecord<T>(path: string, isRecord: (value: unknown) => value is T): T | undefined {
  try {
    const value = readOwnJson(path, MAX_BYTES)
    return isRecord(value) ? value : undefined
  } catch (error) {
    if (error instanceof UnusableFile) return undefined
    throw error
  }
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Whether a field of a record is a list of diffIDs. */
export function isStack(value: unknown): value is readonly DiffId[] {
  return Array.isArray(value) && value.every(isDigest)
}
