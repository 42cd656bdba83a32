import { readFileSync } from 'node:fs'
import { isDigest, type DiffId } from '@strata/oci'

/**
 * A small JSON file of our own. Undefined if it is not there or is not whole: after a loss of power a file may be empty that was renamed into place,
 * and what it spoke of counts as not made.
 */
export function readRecord<T>(path: string, isRecord: (value: unknown) => value is T): T | undefined {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return undefined
    throw error
  }
  try {
    const value: unknown = JSON.parse(text)
    return isRecord(value) ? value : undefined
  } catch {
    return undefined
  }
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

export function isStack(value: unknown): value is readonly DiffId[] {
  return Array.isArray(value) && value.every(isDigest)
}
