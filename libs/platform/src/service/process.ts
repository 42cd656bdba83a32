import { asStrataError } from '@strata/base'
import { logFromTheStart } from './logging.js'

/**
 * The life of a process of Strata: `main` runs to its end, then the process exits with 0; with 1
 * and a sentence on stderr if it throws.
 *
 * `ending` resolves at the first SIGTERM or SIGINT, `main` then lets go and returns. The second
 * signal ends the process at once, with 1: whatever is under way is done again by others, as after
 * a crash.
 */
export async function runProcess(main: (ending: Promise<void>) => Promise<void>): Promise<never> {
  // As dockerd. Hardened machines start services under 077, and then a user in a container who is
  // not root could read no file and enter no folder that we make there. What is secret is made with
  // a mode of its own.
  process.umask(0o022)
  logFromTheStart(process.env)
  let asked = false
  const ending = new Promise<void>((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      process.on(signal, () => {
        if (asked) process.exit(1)
        asked = true
        resolve()
      })
    }
  })
  // A fault that nobody waits for ends the process in the same words. Several may come in one turn
  // of the event loop: the listener stays, or Node ends the process with the stack of the second.
  const uncaught = new Promise<never>((_, reject) => process.on('uncaughtException', reject))
  try {
    await Promise.race([main(ending), uncaught])
    return process.exit(0)
  } catch (error) {
    const { code, message, cause, stack } = asStrataError(error)
    process.stderr.write(`strata: ${message}\n`)
    if (code === 'internal') process.stderr.write(`${String((cause as Error | undefined)?.stack ?? stack)}\n`)
    return process.exit(1)
  }
}

/** Waits for `work`, `milliseconds` at most: false if it is still under way then. */
export async function awaited(work: Promise<void>, milliseconds: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<false>((resolve) => (timer = setTimeout(() => resolve(false), milliseconds)))
  return Promise.race([work.then(() => true), late]).finally(() => clearTimeout(timer))
}
