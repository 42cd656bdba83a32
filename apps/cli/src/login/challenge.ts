/** The ways of authentication that an answer offers (RFC 9110, section 11.6.1). */
export interface Challenge {
  /** In lower case: `basic`, `bearer`. */
  readonly scheme: string
  /** By name in lower case. */
  readonly parameters: ReadonlyMap<string, string>
}

const TOKEN = String.raw`[\w!#$%&'*+.^\x60|~-]+`
/** A parameter, or the scheme of the next challenge; separators before it are skipped. */
const PART = new RegExp(
  String.raw`[\s,]*(?:(${TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|(${TOKEN}))|(${TOKEN})(?=[\s,]|$))`,
  'y',
)
const MAX_HEADER = 8_192

/** The challenges of a `WWW-Authenticate` header; what comes behind something else is left out. */
export function challengesOf(header = ''): Challenge[] {
  const challenges: { scheme: string; parameters: Map<string, string> }[] = []
  PART.lastIndex = 0
  for (let part = PART.exec(header.slice(0, MAX_HEADER)); part; part = PART.exec(header.slice(0, MAX_HEADER))) {
    const [, name, quoted, plain, scheme] = part
    if (scheme !== undefined) challenges.push({ scheme: scheme.toLowerCase(), parameters: new Map() })
    else challenges.at(-1)?.parameters.set((name ?? '').toLowerCase(), quoted?.replace(/\\(.)/g, '$1') ?? plain ?? '')
  }
  return challenges
}
