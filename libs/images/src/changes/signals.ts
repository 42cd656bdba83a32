import { constants } from 'node:os'

/**
 * Whether docker takes the text as a signal: a number, or a name with or without `SIG`. Real-time
 * signals are counted from either end (signal(7)).
 */
export function isSignal(text: string): boolean {
  if (/^\d+$/.test(text)) return Number(text) >= 1 && Number(text) <= 64
  const name = text.toUpperCase().replace(/^SIG/, '')
  return (
    Object.hasOwn(constants.signals, `SIG${name}`) ||
    /^RTMIN(?:\+(?:[0-9]|1[0-5]))?$|^RTMAX(?:-(?:[0-9]|1[0-4]))?$/.test(name)
  )
}
