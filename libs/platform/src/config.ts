import { StrataError } from '@strata/oci'
import type { z } from 'zod'

/** The environment against a schema, as a whole: every error is listed, each with its variable, before anything starts. */
export function readConfig<T>(schema: z.ZodType<T>, environment: NodeJS.ProcessEnv): T {
  // An empty variable is as none: that is how compose files and units leave one out.
  const given = Object.fromEntries(Object.entries(environment).filter(([, value]) => value !== undefined && value !== ''))
  const result = schema.safeParse(given)
  if (result.success) return result.data
  const lines = result.error.issues.map((issue) => `  ${issue.path.join('.')}: ${issue.message}`)
  throw new StrataError('bad_request', `the configuration is not valid:\n${lines.join('\n')}`)
}
