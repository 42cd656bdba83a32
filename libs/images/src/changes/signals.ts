import { constants } from 'node:os'

/**
 * By number or name, with or without `SIG`, as docker takes it; real-time ones are counted from
 * either end (signal(7)).
 */
export function isSignal(text: string): boolean {
  if (/^\d+$/.test(text)) return Number(text) >= 1 && Number(text) <= 64
  const name = text.toUpperCase().replace(/^SIG/, '')
  return (
    Object.hasOwn(constants.signals, `SIG${name}`) ||
    /^RTMIN(?:\+(?:[0-9]|1[0-5]))?$|^RTMAX(?:-(?:[0-9]|1[0-4]))?$/.test(name)
  )
}
