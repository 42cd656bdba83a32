import { jsonWords } from './commands.js'
import { WordError } from './words.js'

/**
 * docker's extension of the image's config. Times are in nanoseconds. The engine chooses a value
 * that is absent.
 */
export interface Healthcheck {
  readonly Test: readonly string[]
  readonly Interval?: number
  readonly Timeout?: number
  readonly StartPeriod?: number
  readonly StartInterval?: number
  readonly Retries?: number
}

const TIMES = {
  '--interval': 'Interval',
  '--timeout': 'Timeout',
  '--start-period': 'StartPeriod',
  '--start-interval': 'StartInterval',
} as const

/** Reads `NONE`, or `CMD` with a command in exec or shell form. The flags stand before it. */
export function readHealthcheck(rest: string, flags: readonly string[]): Healthcheck {
  const [, kind = '', command = ''] = /^(\S+)\s*(.*)$/s.exec(rest) ?? []
  if (kind.toUpperCase() === 'NONE') {
    if (command !== '') throw new WordError('HEALTHCHECK NONE takes no arguments')
    return { Test: ['NONE'] }
  }
  if (kind.toUpperCase() !== 'CMD') throw new WordError(`Unknown type ${JSON.stringify(kind)} in HEALTHCHECK (try CMD)`)
  const words = jsonWords(command)
  if (command === '' || words?.length === 0) throw new WordError('Missing command after HEALTHCHECK CMD')
  return {
    Test: words ? ['CMD', ...words] : ['CMD-SHELL', command],
    ...(Object.assign({}, ...flags.map(optionOf)) as Partial<Healthcheck>),
  }
}

function optionOf(flag: string): Partial<Healthcheck> {
  const [, name = '', value = ''] = /^([^=]*)=?(.*)$/s.exec(flag) ?? []
  if (name === '--retries') {
    if (!/^\d{1,9}$/.test(value)) throw new WordError(`--retries must be a number, not ${JSON.stringify(value)}`)
    return { Retries: Number(value) }
  }
  if (!Object.hasOwn(TIMES, name)) throw new WordError(`unknown flag: ${name}`)
  const time = nanosecondsOf(value)
  if (time === undefined) throw new WordError(`invalid duration ${JSON.stringify(value)} of ${name}`)
  if (time !== 0 && time < 1e6) throw new WordError(`${name} cannot be less than 1ms`)
  return { [TIMES[name as keyof typeof TIMES]]: time }
}

const UNITS: Readonly<Record<string, number>> = { ns: 1, us: 1e3, µs: 1e3, ms: 1e6, s: 1e9, m: 60e9, h: 3600e9 }

/** Go's durations: `1h30m`, `1.5s`, `0`. */
function nanosecondsOf(text: string): number | undefined {
  if (text === '0') return 0
  if (!/^(?:\d+(?:\.\d+)?(?:ns|us|µs|ms|s|m|h))+$/.test(text)) return undefined
  let sum = 0
  for (const [, number, unit] of text.matchAll(/([\d.]+)(\D+)/g)) sum += Math.round(Number(number) * UNITS[unit!]!)
  return Number.isSafeInteger(sum) ? sum : undefined
}
