import { open, readdir, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'

/**
 * The file that conmon writes. A closed generation has a number for its name, in the order of
 * writing.
 */
export const CURRENT = 'current'
/** Where conmon makes its next file, before it renames it over `current`. */
export const NEXT = `${CURRENT}.tmp`

export interface Generation {
  readonly file: FileHandle
  /** The current one's is the number that it will get. */
  readonly number: number
}

/** The closed generations, oldest first. */
export async function closedGenerations(folder: string): Promise<number[]> {
  return (await namesIn(folder))
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .sort((a, b) => a - b)
}

/**
 * Opens the first generation after `after` (default: the oldest there is); `undefined` if there is
 * none yet. A rotation may happen at any moment: the number that is answered is right all the same,
 * since a number is always one more than the largest there is, and the newest closed one is never
 * removed.
 */
export async function openAfter(folder: string, after = -1): Promise<Generation | undefined> {
  for (;;) {
    const number = (await closedGenerations(folder)).find((closed) => closed > after)
    const file = await open(join(folder, number === undefined ? CURRENT : String(number)), 'r').catch(
      (error: unknown) => {
        if (isAbsent(error)) return undefined
        throw error
      },
    )
    if (number !== undefined) {
      if (file) return { file, number }
      continue // removed in between
    }
    const newest = (await closedGenerations(folder)).at(-1) ?? -1
    if (newest > after) {
      await file?.close() // rotated in between
      continue
    }
    if (file && newest + 1 > after) return { file, number: newest + 1 }
    await file?.close() // it is the one that the caller has had
    return undefined
  }
}

/**
 * Whether nothing will be written to this generation any more: it has been closed *and* conmon has
 * opened the next.
 */
export async function isFinal(folder: string, number: number): Promise<boolean> {
  const newest = (await closedGenerations(folder)).at(-1) ?? -1
  if (newest > number) return true
  if (newest < number) return false
  return (await namesIn(folder)).includes(CURRENT)
}

/** None where the folder is gone: the container was removed under a reader. */
async function namesIn(folder: string): Promise<string[]> {
  return await readdir(folder).catch((error: unknown) => {
    if (isAbsent(error)) return []
    throw error
  })
}

export function isAbsent(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT'
}
