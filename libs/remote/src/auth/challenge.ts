import { StrataError } from '@strata/base'

/** One of the ways that a server offers (RFC 9110, 11.6.1). */
export interface Challenge {
  /** In lower case. */
  readonly scheme: string
  readonly parameters: ReadonlyMap<string, string>
}

const TOKEN = "[!#$%&'*+.^_`|~0-9A-Za-z-]+"
const SCHEME = new RegExp(`[\\s,]*(${TOKEN})(?:\\s+|$|(?=,))`, 'y')
const PARAMETER = new RegExp(`[\\s,]*(${TOKEN})\\s*=\\s*(?:"((?:[^"\\\\]|\\\\.)*)"|(${TOKEN}))`, 'y')
const TOKEN68 = /[A-Za-z0-9._~+/-]+=*(?=\s*(?:,|$))/y

/**
 * The challenges of all `WWW-Authenticate` fields, in their order.
 *
 * @throws StrataError `registry_invalid`
 */
export function parseChallenges(fields: readonly string[], what: string): Challenge[] {
  return fields.flatMap((field) => parseField(field, what))
}

function parseField(field: string, what: string): Challenge[] {
  const challenges: Challenge[] = []
  const text = field.trim()
  let at = 0
  const next = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = at
    const found = pattern.exec(text)
    if (found) at = pattern.lastIndex
    return found
  }
  while (at < text.length) {
    const scheme = next(SCHEME)?.[1]
    if (scheme === undefined)
      throw new StrataError(
        'registry_invalid',
        `${what} is answered with a WWW-Authenticate that is not valid: ${JSON.stringify(field.slice(0, 300))}`,
      )
    const parameters = new Map<string, string>()
    let parameter = next(PARAMETER)
    if (!parameter) next(TOKEN68)
    for (; parameter; parameter = next(PARAMETER)) {
      const [, name = '', quoted, plain = ''] = parameter
      const key = name.toLowerCase()
      // The first one counts: whoever adds another one changes nothing.
      if (!parameters.has(key)) parameters.set(key, quoted?.replaceAll(/\\(.)/g, '$1') ?? plain)
    }
    challenges.push({ scheme: scheme.toLowerCase(), parameters })
  }
  return challenges
}
