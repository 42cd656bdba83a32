import type { Growth } from './growth.js'

/**
 * Words of a Dockerfile's line, as docker's builder reads them (buildkit, `frontend/dockerfile`,
 * parser and shell): quotes, escapes and variables.
 */
const ESCAPE = '\\'
const SPACE = /\s/

/** Why a line is not valid. The code that reads the instruction adds which one it was. */
export class WordError extends Error {}

/**
 * Splits at spaces that are neither quoted nor escaped. Quotes and escapes stay in the words;
 * `expand` removes them.
 */
export function splitWords(text: string): string[] {
  const words: string[] = []
  let word = ''
  let quote = ''
  for (let at = 0; at < text.length; at++) {
    const char = text[at]!
    if (quote === '' && SPACE.test(char)) {
      if (word !== '') words.push(word)
      word = ''
      continue
    }
    if (char === ESCAPE && quote !== "'") {
      // An escape at the very end has no effect.
      if (at + 1 < text.length) word += char + text[++at]!
      continue
    }
    if (quote === '' && (char === '"' || char === "'")) quote = char
    else if (char === quote) quote = ''
    word += char
  }
  if (word !== '') words.push(word)
  return words
}

/**
 * A word without its quotes and escapes, and with the values of its variables: `$NAME`, `${NAME}`,
 * and `${NAME:-word}`, `${NAME:+word}`, `${NAME:?word}`, each also without the colon. A variable
 * that is not set is empty.
 * @throws WordError; StrataError `limit_exceeded` from `growth`
 */
export function expand(word: string, values: ReadonlyMap<string, string>, growth: Growth): string {
  return new Expansion(word, values, growth).until('')
}

/** How deep substitutions may be nested (`${a:-${b:-…}}`): each level is a call within a call. */
const MAX_NESTING = 100

class Expansion {
  #at = 0
  #nesting = 0

  constructor(
    private readonly text: string,
    private readonly values: ReadonlyMap<string, string>,
    private readonly growth: Growth,
  ) {}

  /** Expands up to and including `stop`; to the end of the text if `stop` is empty. */
  until(stop: string): string {
    let result = ''
    for (;;) {
      const char = this.text[this.#at++]
      if (char === undefined) {
        if (stop === '') return result
        throw new WordError(`unexpected end of statement while looking for matching ${stop}`)
      }
      if (char === stop) return result
      if (char === "'") result += this.#singleQuoted()
      else if (char === '"') result += this.#doubleQuoted()
      else if (char === '$') result += this.#variable()
      else if (char === ESCAPE) result += this.text[this.#at++] ?? ''
      else result += char
    }
  }

  #singleQuoted(): string {
    const end = this.text.indexOf("'", this.#at)
    if (end < 0) throw new WordError('unexpected end of statement while looking for matching single-quote')
    const inside = this.text.slice(this.#at, end)
    this.#at = end + 1
    return inside
  }

  #doubleQuoted(): string {
    let result = ''
    for (;;) {
      const char = this.text[this.#at++]
      if (char === undefined) throw new WordError('unexpected end of statement while looking for matching double-quote')
      if (char === '"') return result
      if (char === '$') result += this.#variable()
      // POSIX.1-2024, Shell Command Language, 2.2.3: before any other character a backslash stands
      // for itself.
      else if (char === ESCAPE && /["$\\]/.test(this.text[this.#at] ?? '')) result += this.text[this.#at++]!
      else result += char
    }
  }

  #variable(): string {
    if (this.text[this.#at] === '{') return this.#braced()
    const name = this.#name()
    return name === '' ? '$' : this.#grown(this.values.get(name) ?? '')
  }

  #grown(value: string): string {
    this.growth.take(value.length)
    return value
  }

  #braced(): string {
    this.#at++
    const name = this.#name()
    if (name === '') throw new WordError('bad substitution: ${} names no variable')
    const value = this.values.get(name)
    let sign = this.text[this.#at++]
    if (sign === '}') return this.#grown(value ?? '')
    const isColon = sign === ':'
    if (isColon) sign = this.text[this.#at++]
    if (sign === undefined) throw new WordError('unexpected end of statement while looking for matching }')
    if (!'-+?'.includes(sign))
      throw new WordError(`unsupported modifier (${isColon ? ':' : ''}${sign}) in substitution`)
    if (++this.#nesting > MAX_NESTING) throw new WordError(`more than ${MAX_NESTING} substitutions inside each other`)
    const other = this.until('}')
    this.#nesting--
    const isSet = value !== undefined && !(isColon && value === '')
    if (sign === '+') return isSet ? other : ''
    if (isSet) return this.#grown(value)
    if (sign === '-') return other
    throw new WordError(`${name}: ${other === '' ? 'not allowed to be unset' : other}`)
  }

  /**
   * A name of letters, digits and underscores. A name that begins with a digit, or with a sign that
   * has a meaning in a shell, is that one character.
   */
  #name(): string {
    NAME.lastIndex = this.#at
    const [name = ''] = NAME.exec(this.text)!
    this.#at += name.length
    return name
  }
}

const NAME = /(?:[A-Za-z_]\w*|[0-9@*#?!-])?/y
