import { FUNCTIONS } from './template-functions.js'
import { wrong } from './template-values.js'

export type Expression =
  | { readonly kind: 'value'; readonly value: unknown }
  | { readonly kind: 'path'; readonly of: Expression | undefined; readonly names: readonly string[] }
  | { readonly kind: 'variable'; readonly name: string }
  | { readonly kind: 'call'; readonly name: string; readonly args: readonly Expression[] }

/** One of `$name := …`, or two of a `range`. */
export interface Pipeline {
  readonly variables: readonly string[]
  readonly expression: Expression
}

export type Node =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'action'; readonly pipeline: Pipeline }
  | {
      readonly kind: 'if' | 'with' | 'range'
      readonly pipeline: Pipeline
      readonly then: readonly Node[]
      readonly otherwise: readonly Node[]
    }

const TOKEN =
  /\s*(?:("(?:[^"\\\n]|\\.)*")|`([^`]*)`|(-?\d+(?:\.\d+)?)|((?:\.\w+)+|\.)|(\$\w*)|([A-Za-z_]\w*)|(:=|[|(),=]))/y
type Token =
  | { readonly is: 'text' | 'path' | 'variable' | 'word' | 'sign'; readonly text: string }
  | { readonly is: 'number'; readonly value: number }

function tokensOf(action: string): Token[] {
  const tokens: Token[] = []
  TOKEN.lastIndex = 0
  while (action.slice(TOKEN.lastIndex).trim() !== '') {
    const at = TOKEN.lastIndex
    const found = TOKEN.exec(action)
    if (!found) wrong(`unexpected ${JSON.stringify(action.slice(at).trim().slice(0, 20))} in {{${action}}}`)
    const [, quoted, raw, number, path, variable, word, sign] = found
    if (quoted !== undefined) tokens.push({ is: 'text', text: unquoted(quoted) })
    else if (raw !== undefined) tokens.push({ is: 'text', text: raw })
    else if (number !== undefined) tokens.push({ is: 'number', value: Number(number) })
    else if (path !== undefined) tokens.push({ is: 'path', text: path })
    else if (variable !== undefined) tokens.push({ is: 'variable', text: variable })
    else if (word !== undefined) tokens.push({ is: 'word', text: word })
    else tokens.push({ is: 'sign', text: sign ?? '' })
  }
  return tokens
}

function unquoted(text: string): string {
  try {
    return JSON.parse(text) as string
  } catch {
    return wrong(`${text} is not a string`)
  }
}

/** @returns the parts of a template. Throws a CliError if it is not one */
export function nodesOf(source: string): readonly Node[] {
  return new Parser(source).nodes([])
}

/** What stands between `{{` and `}}`, and the text before each. */
class Parser {
  #at = 0
  #trimNext = false

  constructor(private readonly source: string) {}

  /** Up to one of `ends`, which is left in `last`; up to the end of the text if there are none. */
  nodes(ends: readonly string[]): Node[] {
    const nodes: Node[] = []
    for (;;) {
      const open = this.source.indexOf('{{', this.#at)
      const text = this.source.slice(this.#at, open < 0 ? undefined : open)
      const trimmed = this.#trimNext ? text.trimStart() : text
      this.#trimNext = false
      if (open < 0) {
        if (ends.length > 0) wrong('an {{end}} is missing')
        this.#at = this.source.length
        return [...nodes, { kind: 'text', text: trimmed }]
      }
      const { action, trimsBefore } = this.#comment(open) ?? this.#action(open)
      nodes.push({ kind: 'text', text: trimsBefore ? trimmed.trimEnd() : trimmed })
      if (action === undefined) continue
      const word = /^(?:if|with|range|else|end)\b/.exec(action)?.[0]
      if (word === 'end' || word === 'else') {
        if (!ends.includes(word)) wrong(`unexpected {{${word}}}`)
        this.last = action
        return nodes
      }
      if (word === 'if' || word === 'with' || word === 'range') nodes.push(this.#block(word, action.slice(word.length)))
      else nodes.push({ kind: 'action', pipeline: pipelineOf(action) })
    }
  }
  last = ''

  #block(kind: 'if' | 'with' | 'range', condition: string): Node {
    const pipeline = pipelineOf(condition)
    const then = this.nodes(['else', 'end'])
    if (this.last === 'end') return { kind, pipeline, then, otherwise: [] }
    const next = /^else\s+(if|with)\b(.*)$/s.exec(this.last)
    if (next) return { kind, pipeline, then, otherwise: [this.#block(next[1] as 'if' | 'with', next[2] ?? '')] }
    if (this.last !== 'else') wrong(`unexpected {{${this.last}}}`)
    return { kind, pipeline, then, otherwise: this.nodes(['end']) }
  }

  /** As in Go, a comment is alone in its action, and ends at the first `*\/`. */
  #comment(open: number): { action: undefined; trimsBefore: boolean } | undefined {
    const begin = /\{\{(-\s)?\/\*/y
    begin.lastIndex = open
    const begun = begin.exec(this.source)
    if (!begun) return undefined
    const end = this.source.indexOf('*/', begin.lastIndex)
    if (end < 0) wrong('unclosed comment')
    const close = /(\s-)?\}\}/y
    close.lastIndex = end + 2
    const closed = close.exec(this.source)
    if (!closed) wrong('a comment ends before its action does')
    this.#at = close.lastIndex
    this.#trimNext = closed[1] !== undefined
    return { action: undefined, trimsBefore: begun[1] !== undefined }
  }

  #action(open: number): { action: string; trimsBefore: boolean } {
    // A `}}` inside of a string does not end an action. No two alternatives match the same
    // character: else an unclosed action is tried in exponentially many ways.
    const whole = /\{\{(-\s)?((?:"(?:[^"\\\n]|\\.)*"|`[^`]*`|(?!\}\})[^"`])*?)(\s-)?\}\}/sy
    whole.lastIndex = open
    const found = whole.exec(this.source)
    if (!found) wrong('unclosed action')
    this.#at = whole.lastIndex
    this.#trimNext = found[3] !== undefined
    return { action: (found[2] ?? '').trim(), trimsBefore: found[1] !== undefined }
  }
}

function pipelineOf(action: string): Pipeline {
  const tokens = tokensOf(action)
  const variables: string[] = []
  const assigned = tokens.findIndex((token) => token.is === 'sign' && (token.text === ':=' || token.text === '='))
  if (assigned >= 0)
    for (const token of tokens.splice(0, assigned + 1)) if (token.is === 'variable') variables.push(token.text)
  const expression = commands(tokens)
  if (tokens.length > 0 || variables.length > 2) wrong(`unexpected words in {{${action}}}`)
  return { variables, expression }
}

/** `a | b | c`: the value of each is the last argument of the next. */
function commands(tokens: Token[]): Expression {
  let value: Expression | undefined
  do {
    const words = operands(tokens)
    const [first, ...args] = words
    if (first === undefined) return wrong('a command is missing')
    const given = value === undefined ? args : [...args, value]
    if ('call' in first) value = { kind: 'call', name: first.call, args: given.map(asArgument) }
    else if (given.length > 0) wrong('only a function takes arguments')
    else value = first
  } while (isSign(tokens[0], '|') && tokens.shift() !== undefined)
  return value
}

type Word = Expression | { readonly call: string }
const asArgument = (word: Word): Expression => ('call' in word ? { kind: 'call', name: word.call, args: [] } : word)
const isSign = (token: Token | undefined, text: string): boolean => token?.is === 'sign' && token.text === text

function operands(tokens: Token[]): Word[] {
  const words: Word[] = []
  for (let token = tokens[0]; token !== undefined; token = tokens[0]) {
    if (token.is === 'sign' && token.text !== '(') break
    tokens.shift()
    if (token.is === 'number') words.push({ kind: 'value', value: token.value })
    else if (token.is === 'text') words.push({ kind: 'value', value: token.text })
    else if (token.is === 'path') words.push({ kind: 'path', of: undefined, names: namesOf(token.text) })
    else if (token.is === 'word') words.push(wordOf(token.text))
    else {
      const of: Expression = token.is === 'variable' ? { kind: 'variable', name: token.text } : parenthesis(tokens)
      const [path] = tokens
      if (path?.is === 'path' && path.text !== '.') {
        tokens.shift()
        words.push({ kind: 'path', of, names: namesOf(path.text) })
      } else words.push(of)
    }
  }
  return words
}

function parenthesis(tokens: Token[]): Expression {
  const value = commands(tokens)
  if (!isSign(tokens.shift(), ')')) wrong('a ) is missing')
  return value
}

const namesOf = (path: string): string[] => path.split('.').filter((name) => name !== '')

function wordOf(text: string): Word {
  if (text === 'true' || text === 'false') return { kind: 'value', value: text === 'true' }
  if (text === 'nil') return { kind: 'value', value: undefined }
  if (!FUNCTIONS.has(text)) wrong(`function ${JSON.stringify(text)} not defined`)
  return { call: text }
}
