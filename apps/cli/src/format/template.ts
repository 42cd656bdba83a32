import { CliError } from '../errors.js'

/*
 * The part of Go's text/template that scripts use with docker's `--format`
 * (https://docs.docker.com/engine/cli/formatting, https://pkg.go.dev/text/template):
 *
 *     {{.Repository}}:{{.Tag}}   {{.State.Status}}   {{json .}}   {{.RepoTags | json}}
 *     {{range .RepoTags}}{{println .}}{{else}}none{{end}}   {{range $i, $tag := .RepoTags}}…{{end}}
 *     {{if eq .State "running"}}…{{else if .X}}…{{else}}…{{end}}
 *     {{with .Config}}…{{end}}
 *     {{index .Labels "a"}}   {{$x := .Id}}   {{- .X -}}   {{/* nothing *\/}}
 *
 * Left out are `define`, `template`, `block`, `break`, `continue`: no line of a script has them.
 *
 * A value is JSON, in which a Map is a Go map: what it does not hold is empty. A plain object is a
 * struct: a field that it does not have is an error.
 */

/**
 * @returns what a template makes of a value. Both throw only CliErrors: for a template that is not
 * one, asks for what is not there, or is too deep or too long for the engine
 */
export function parseTemplate(source: string): (value: unknown) => string {
  const nodes = withinBounds(() => new Parser(source).nodes([]))
  return (value) => withinBounds(() => render(nodes, new Scope(value)))
}

/** The engine says by RangeError that the stack is full or a string too long. */
function withinBounds<T>(make: () => T): T {
  try {
    return make()
  } catch (error) {
    if (error instanceof RangeError) return wrong('it is nested too deep, or its output is too long')
    throw error
  }
}

type Expression =
  | { readonly kind: 'value'; readonly value: unknown }
  | { readonly kind: 'path'; readonly of: Expression | undefined; readonly names: readonly string[] }
  | { readonly kind: 'variable'; readonly name: string }
  | { readonly kind: 'call'; readonly name: string; readonly args: readonly Expression[] }

/** One of `$name := …`, or two of a `range`. */
interface Pipeline {
  readonly variables: readonly string[]
  readonly expression: Expression
}

type Node =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'action'; readonly pipeline: Pipeline }
  | {
      readonly kind: 'if' | 'with' | 'range'
      readonly pipeline: Pipeline
      readonly then: readonly Node[]
      readonly otherwise: readonly Node[]
    }

function wrong(what: string): never {
  throw new CliError(`template: ${what}`)
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

/** The dot, and the variables around it. */
class Scope {
  readonly #variables: Map<string, unknown>
  constructor(
    readonly dot: unknown,
    outer?: Scope,
  ) {
    this.#variables = new Map(outer ? outer.#variables : [['$', dot]])
  }
  get(name: string): unknown {
    return this.#variables.has(name) ? this.#variables.get(name) : wrong(`undefined variable ${name}`)
  }
  set(name: string, value: unknown): void {
    this.#variables.set(name, value)
  }
}

function render(nodes: readonly Node[], scope: Scope): string {
  let out = ''
  for (const node of nodes) {
    if (node.kind === 'text') out += node.text
    else if (node.kind === 'range') out += renderRange(node, scope)
    else {
      const { variables, expression } = node.pipeline
      const value = evaluate(expression, scope)
      const inner = node.kind === 'action' ? scope : new Scope(node.kind === 'with' ? value : scope.dot, scope)
      for (const name of variables) inner.set(name, value)
      if (node.kind !== 'action') out += isTrue(value) ? render(node.then, inner) : render(node.otherwise, scope)
      else if (variables.length === 0) out += textOf(value)
    }
  }
  return out
}

function renderRange(
  { pipeline, then, otherwise }: Extract<Node, { pipeline: Pipeline; then: unknown }>,
  scope: Scope,
): string {
  const value = evaluate(pipeline.expression, scope)
  const entries: [unknown, unknown][] = Array.isArray(value)
    ? [...value.entries()]
    : value instanceof Map
      ? [...(value as Map<string, unknown>).entries()].sort(([a], [b]) => (a < b ? -1 : 1))
      : isTrue(value)
        ? wrong(`range can't iterate over ${textOf(value)}`)
        : []
  if (entries.length === 0) return render(otherwise, scope)
  return entries
    .map(([key, one]) => {
      const inner = new Scope(one, scope)
      const [first, second] = pipeline.variables
      if (second !== undefined) inner.set(second, one)
      if (first !== undefined) inner.set(first, second === undefined ? one : key)
      return render(then, inner)
    })
    .join('')
}

function evaluate(expression: Expression, scope: Scope): unknown {
  switch (expression.kind) {
    case 'value':
      return expression.value
    case 'variable':
      return scope.get(expression.name)
    case 'path':
      return expression.names.reduce(fieldOf, expression.of ? evaluate(expression.of, scope) : scope.dot)
    case 'call':
      return FUNCTIONS.get(expression.name)?.(...expression.args.map((arg) => evaluate(arg, scope)))
  }
}

function fieldOf(value: unknown, name: string): unknown {
  if (value instanceof Map) return (value as Map<string, unknown>).get(name) ?? ''
  if (isStruct(value)) {
    if (Object.hasOwn(value, name)) return value[name]
    return wrong(`there is no field ${name}: there are ${Object.keys(value).join(', ')}`)
  }
  return wrong(`can't evaluate field ${name} in ${textOf(value) || 'nothing'}`)
}

const isStruct = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Map)

/** As Go: nothing, zero and what is empty are false. */
function isTrue(value: unknown): boolean {
  if (Array.isArray(value)) return value.length > 0
  return value instanceof Map ? value.size > 0 : Boolean(value)
}

/** As Go's `%v`. */
function textOf(value: unknown): string {
  if (value === undefined || value === null) return ''
  if (Array.isArray(value)) return `[${value.map(textOf).join(' ')}]`
  if (value instanceof Map)
    return `map[${[...(value as Map<string, unknown>)].map(([key, one]) => `${key}:${textOf(one)}`).join(' ')}]`
  if (isStruct(value)) return `{${Object.values(value).map(textOf).join(' ')}}`
  return typeof value === 'string' ? value : JSON.stringify(value)
}

/** JSON in a line, of Maps too. */
export function jsonOf(value: unknown): string {
  return JSON.stringify(value ?? null, (_key, one: unknown) =>
    one instanceof Map ? Object.fromEntries(one as Map<string, unknown>) : one,
  )
}

function indexOf(value: unknown, ...keys: readonly unknown[]): unknown {
  return keys.reduce((inside, key) => {
    if (typeof key === 'string') return fieldOf(inside, key)
    if (!Array.isArray(inside) || typeof key !== 'number') return wrong(`can't index ${textOf(inside)}`)
    return key >= 0 && key < inside.length ? (inside[key] as unknown) : wrong(`index out of range: ${key}`)
  }, value)
}

function lengthOf(value: unknown): number {
  if (value instanceof Map) return value.size
  return Array.isArray(value) || typeof value === 'string' ? value.length : wrong(`len of ${textOf(value)}`)
}

/** The most that Go takes as a width. */
const MAX_WIDTH = 1_000_000

function widthOf(value: unknown): number {
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= MAX_WIDTH) return value
  return wrong(`a width is a whole number from 0 to ${MAX_WIDTH}: got ${textOf(value) || 'nothing'}`)
}

/** fmt.Sprintf's %s, %v, %d, %t, %q and %%, with a width. */
function printf(format: unknown, ...values: readonly unknown[]): string {
  let at = 0
  return textOf(format).replaceAll(/%(-?)(\d*)([a-z%])/g, (_, left: string, width: string, verb: string) => {
    if (verb === '%') return '%'
    if (!'svdtq'.includes(verb)) return wrong(`printf does not know %${verb}`)
    if (at >= values.length) return wrong('printf has too few values')
    const value = textOf(values[at++])
    const text = verb === 'q' ? JSON.stringify(value) : value
    const length = widthOf(Number(width))
    return left ? text.padEnd(length) : text.padStart(length)
  })
}

const compare =
  (holds: (order: number) => boolean) =>
  (a: unknown, b: unknown): boolean =>
    holds(
      typeof a === 'number' && typeof b === 'number'
        ? a - b
        : textOf(a) < textOf(b)
          ? -1
          : textOf(a) > textOf(b)
            ? 1
            : 0,
    )

/** Go's own functions and docker's (docker/cli, templates/templates.go). */
const FUNCTIONS = new Map<string, (...args: unknown[]) => unknown>([
  ['json', jsonOf],
  ['join', (list, by) => (Array.isArray(list) ? list.map(textOf).join(textOf(by)) : textOf(list))],
  ['split', (text, by) => textOf(text).split(textOf(by))],
  ['lower', (text) => textOf(text).toLowerCase()],
  ['upper', (text) => textOf(text).toUpperCase()],
  ['title', (text) => textOf(text).replaceAll(/\b[a-z]/g, (letter) => letter.toUpperCase())],
  ['truncate', (text, length) => textOf(text).slice(0, Number(length))],
  ['pad', (text, before, after) => ' '.repeat(widthOf(before)) + textOf(text) + ' '.repeat(widthOf(after))],
  ['print', (...values) => values.map(textOf).join('')],
  ['println', (...values) => `${values.map(textOf).join(' ')}\n`],
  ['printf', printf],
  ['len', lengthOf],
  ['index', indexOf],
  ['not', (value) => !isTrue(value)],
  ['and', (...values) => values.find((value) => !isTrue(value)) ?? values.at(-1)],
  ['or', (...values) => values.find(isTrue) ?? values.at(-1)],
  ['eq', (first, ...others) => others.some((other) => textOf(first) === textOf(other))],
  ['ne', compare((order) => order !== 0)],
  ['lt', compare((order) => order < 0)],
  ['le', compare((order) => order <= 0)],
  ['gt', compare((order) => order > 0)],
  ['ge', compare((order) => order >= 0)],
])
