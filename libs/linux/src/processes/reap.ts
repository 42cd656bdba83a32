import { setTimeout as delay } from 'node:timers/promises'
import { waitpid, type WaitResult } from './spawn.js'

/** Ended by a signal: the code is 128 + 9, whichever it was. */
const codeOf = (result: WaitResult): number => ('code' in result ? result.code : 137)

/**
 * The exit code of a child of posixSpawn's, when it has ended: meant for one that soon will, since
 * it looks every 50 ms.
 */
export async function reap(pid: number): Promise<number> {
  for (let pause = 1; ; pause = Math.min(pause * 2, 50)) {
    const result = waitpid(pid, true)
    if (result) return codeOf(result)
    await delay(pause)
  }
}
