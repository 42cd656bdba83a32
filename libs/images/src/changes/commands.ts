import { WordError } from './words.js'

/**
 * The command of CMD or ENTRYPOINT. The exec form is a JSON array of words. Any other text is the
 * shell form: a line for `/bin/sh`, which every Linux image is expected to have.
 */
export function commandOf(rest: string): string[] {
  return jsonWords(rest) ?? ['/bin/sh', '-c', rest]
}

/** The words of a JSON array; `undefined` if the text is no JSON array. */
export function jsonWords(rest: string): string[] | undefined {
  if (!rest.startsWith('[')) return undefined
  let words: unknown
  try {
    words = JSON.parse(rest)
  } catch {
    // As docker does: a line that only begins like an array is a line for the shell
    // (`[ -f x ] && y`).
    return undefined
  }
  if (!Array.isArray(words) || !words.every((word) => typeof word === 'string'))
    throw new WordError('When using JSON array syntax, arrays must be comprised of strings only.')
  if (words.some((word) => word.includes('\0'))) throw new WordError('it holds a NUL')
  return words
}
