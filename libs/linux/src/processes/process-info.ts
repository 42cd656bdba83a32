import { readFileSync } from 'node:fs'

/**
 * When a process started, in clock ticks since boot (proc_pid_stat(5), field 22): with the pid it
 * names one process for good, since pids are used again. `undefined` if there is no such process; a
 * zombie still has one.
 */
export function pidStartTime(pid: number): number | undefined {
  let text: string
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'latin1')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ESRCH') return undefined
    throw error
  }
  return parseStartTime(text)
}

/**
 * The name in parentheses may hold spaces and parentheses itself, so fields are counted from the
 * last one.
 */
export function parseStartTime(stat: string): number {
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19])
}
