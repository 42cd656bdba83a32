import { constants } from 'node:os'

/** Listens to all of `names` until the returned function is called. */
export function onSignals(names: readonly NodeJS.Signals[], handler: (signal: NodeJS.Signals) => void): () => void {
  for (const name of names) process.on(name, handler)
  return () => {
    for (const name of names) process.off(name, handler)
  }
}

/** What a shell reports for a process that a signal ended. */
export function exitCodeOf(signal: NodeJS.Signals): number {
  return 128 + constants.signals[signal]
}
