import { CliError } from '../errors.js'

/*
 * The values of a template (template.ts). A value is JSON, in which a Map is a Go map: what it does
 * not hold is empty. A plain object is a struct: a field that it does not have is an error.
 */

export function wrong(what: string): never {
  throw new CliError(`template: ${what}`)
}

export function fieldOf(value: unknown, name: string): unknown {
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
export function isTrue(value: unknown): boolean {
  if (Array.isArray(value)) return value.length > 0
  return value instanceof Map ? value.size > 0 : Boolean(value)
}

/** As Go's `%v`. */
export function textOf(value: unknown): string {
  if (value === undefined || value === null) return ''
  if (Array.isArray(value)) return `[${value.map(textOf).join(' ')}]`
  if (value instanceof Map)
    return `map[${[...(value as Map<string, unknown>)].map(([key, one]) => `${key}:${textOf(one)}`).join(' ')}]`
  if (isStruct(value)) return `{${Object.values(value).map(textOf).join(' ')}}`
  return typeof value === 'string' ? value : JSON.stringify(value)
}

/** JSON, of Maps too: in a line, or with so many blanks before what is in something. */
export function jsonOf(value: unknown, indent?: number): string {
  return JSON.stringify(
    value ?? null,
    (_key, one: unknown) => (one instanceof Map ? Object.fromEntries(one as Map<string, unknown>) : one),
    indent,
  )
}
