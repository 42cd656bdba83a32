import { fieldOf, isTrue, jsonOf, textOf, wrong } from './template-values.js'

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
export const FUNCTIONS = new Map<string, (...args: unknown[]) => unknown>([
  ['json', (value) => jsonOf(value)],
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
