import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { ROUTES } from '@strata/api/routes'
import { Client } from './client.js'
import { unixEndpoint } from './endpoint.js'
import { CliError, UnreachableError } from './errors.js'

/** What starts an app: its bundle (tools/setup/bundle.mjs). Never imported, only started. */
export function serviceMain(app: string): string {
  return fileURLToPath(new URL(`../../../dist/${app}.js`, import.meta.url))
}

/**
 * What Node.js is told for a service, before the script's path: how far the young generation of the
 * main thread grows. By default it may take 16 MiB three times over, and does while large bodies
 * arrive; 2 MiB take 60 to 90 MiB off a gateway's peak, and nothing off its speed
 * (docs/performance.md).
 */
export const NODE_FLAGS = ['--max-semi-space-size=2']
/**
 * For glibc's malloc, which gives every thread of the pool an arena of its own, where what was
 * freed stays: some 20 MB more after large loads. And from 2 MiB on memory is given back when it is
 * freed, always: the threshold would rise by itself, and the tables of a large layer's index then
 * stay beside the index that they become.
 */
export const SERVICE_ENVIRONMENT = { MALLOC_ARENA_MAX: '1', MALLOC_MMAP_THRESHOLD_: '2097152' }

/** The process that `up` starts: all services in one. */
export const SERVICE_MAIN = serviceMain('standalone')

/** Whether something answers on the socket: `ready`, or an answer that says it is not (yet). */
export async function probe(socketPath: string): Promise<'ready' | 'starting' | 'absent'> {
  try {
    const answer = await new Client(unixEndpoint(socketPath)).stream(ROUTES.ready.path)
    answer.destroy()
    return 'ready'
  } catch (error) {
    if (error instanceof UnreachableError) return 'absent'
    if (error instanceof CliError) return 'starting'
    throw error
  }
}

/** One process, told from a later one with the same number by its start time. */
export interface Running {
  readonly pid: number
  readonly startTime: string
}

/**
 * Who wrote `<socket>.pid`, if it still runs: a number that another program got meanwhile does not
 * count.
 */
export function runningService(socketPath: string): Running | undefined {
  const text = readText(`${socketPath}.pid`)?.trim() ?? ''
  if (!/^[1-9]\d{0,9}$/.test(text)) return undefined
  const pid = Number(text)
  const startTime = startTimeOf(pid)
  const argv = readText(`/proc/${pid}/cmdline`)?.split('\0') ?? []
  return startTime !== undefined && argv.includes(SERVICE_MAIN) ? { pid, startTime } : undefined
}

export function isRunning({ pid, startTime }: Running): boolean {
  return startTimeOf(pid) === startTime
}

/**
 * Field 22 of /proc/PID/stat (proc_pid_stat(5)); `undefined` for no process, and for one that has
 * ended but was not waited for.
 */
function startTimeOf(pid: number): string | undefined {
  // The second field is the program's name in parentheses, with anything in it.
  const fields = readText(`/proc/${pid}/stat`)
    ?.replace(/^.*\) /s, '')
    .split(' ')
  return fields === undefined || fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19]
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}
