import { StrataError } from '@strata/base'
import type { z } from 'zod'
import { isVariable, nearestVariable } from './variables.js'

/**
 * The environment against a schema, as a whole: every error is listed, a line each with its
 * variable, before anything starts. A name that begins with `STRATA_` and is no variable of any
 * service is an error too: a slip of the pen must not count as a default.
 */
export function readConfig<S extends z.ZodObject>(schema: S, environment: NodeJS.ProcessEnv): z.infer<S> {
  checkConfig([schema], environment)
  return schema.parse(withoutEmpty(environment))
}

/** As `readConfig`, for services that share an environment: all errors of all of them at once. */
export function checkConfig(schemas: readonly z.ZodObject[], environment: NodeJS.ProcessEnv): void {
  const given = withoutEmpty(environment)
  const wrong = schemas.flatMap((schema) =>
    (schema.safeParse(given).error?.issues ?? []).map(({ path, message }) => {
      const name = path.join('.')
      return `${name}: ${name in given ? message : missing(schema, name, message)}`
    }),
  )
  const own = new Set(schemas.flatMap((schema) => Object.keys(schema.shape)))
  const lines = new Set([...wrong, ...unknown(own, Object.keys(given))])
  if (lines.size > 0)
    throw new StrataError(
      'bad_request',
      `the configuration is not valid:\n${[...lines].map((line) => `  ${line}`).join('\n')}`,
    )
}

/** An empty variable is as none: that is how compose files and units leave one out. */
export function withoutEmpty(environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(environment).filter(([, value]) => value !== undefined && value !== ''))
}

type Fields = Readonly<Record<string, z.ZodType | undefined>>

function missing(schema: z.ZodObject, name: string, message: string): string {
  const field = (schema.shape as Fields)[name]
  // A rule over several variables has its own words, and may speak of one that can be left out.
  return field === undefined || field.safeParse(undefined).success
    ? message
    : `is missing${field.description === undefined ? '' : ` (${field.description})`}`
}

function unknown(own: ReadonlySet<string>, names: readonly string[]): string[] {
  return names
    .filter((name) => name.startsWith('STRATA_') && !own.has(name) && !isVariable(name))
    .map((name) => {
      const near = nearestVariable(name)
      return `${name}: there is no such variable${near === undefined ? '' : `; did you mean ${near}?`}`
    })
}

/** All variables of a schema for `--help`: name, default, description. */
export function describeConfig(schema: z.ZodObject): string {
  return Object.entries(schema.shape as Readonly<Record<string, z.ZodType>>)
    .map(([name, field]) => {
      const absent = field.safeParse(undefined)
      const state = !absent.success
        ? 'needed'
        : absent.data === undefined
          ? 'optional'
          : `default ${absent.data as string}`
      return `  ${name}  (${state})\n      ${field.description ?? ''}\n`
    })
    .join('')
}
