import { WordError } from './words.js'

/**
 * The exec form is the words themselves, the shell form a line for the shell that every image of
 * linux is expected to have.
 */
export function commandOf(rest: string): string[] {
  return jsonWords(rest) ?? ['/bin/sh', '-c', rest]
}

/** The words of a JSON array; `undefined` for what is none. */
export function jsonWords(rest: string): string[] | undefined {
  if (!rest.startsWith('[')) return undefined
  let words: unknown
  try {
    words = JSON.parse(rest)
  } catch {
    // As docker: a line that merely begins like one is a line for the shell (`[ -f x ] && y`).
    return undefined
  }
  if (!Array.isArray(words) || !words.every((word) => typeof word === 'string'))
    throw new WordError('When using JSON array syntax, arrays must be comprised of strings only.')
  if (words.some((word) => word.includes('\0'))) throw new WordError('it holds a NUL')
  return words
}
