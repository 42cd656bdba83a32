import { constants } from 'node:os'
import { StrataError } from '@strata/base'

const MAX_SIGNAL = 64

/**
 * `KILL`, `SIGKILL`, `kill`, `9`, `RTMIN+3`: in the form that runtimes take. `bad_request` for what
 * is none.
 */
export function parseSignal(text: string): string {
  const name = text.toUpperCase().replace(/^SIG/, '')
  if (/^\d+$/.test(name) ? Number(name) >= 1 && Number(name) <= MAX_SIGNAL : `SIG${name}` in constants.signals)
    return name
  const realTime = /^(RTMIN\+|RTMAX-)(\d{1,2})$|^RTMIN$|^RTMAX$/.exec(name)
  if (realTime) {
    const number = name.startsWith('RTMIN') ? 34 + Number(realTime[2] ?? 0) : MAX_SIGNAL - Number(realTime[2] ?? 0)
    if (number >= 34 && number <= MAX_SIGNAL) return String(number)
  }
  throw new StrataError('bad_request', `${JSON.stringify(text.slice(0, 50))} is not a signal`)
}

/**
 * An image's StopSignal that names no signal is as good as none: it must not make a container
 * unstoppable.
 */
export function stopSignalOf(text: string | undefined): string {
  try {
    return text ? parseSignal(text) : 'TERM'
  } catch {
    return 'TERM'
  }
}
