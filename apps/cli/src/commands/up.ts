import { spawn, type ChildProcess } from 'node:child_process'
import { closeSync, existsSync, fstatSync, mkdirSync, openSync, readSync, renameSync, statSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Command } from 'commander'
import type { Context } from '../context.js'
import { DEFAULT_DATA, DEFAULT_SOCKET } from '../endpoint.js'
import { CliError, reasonOf } from '../errors.js'
import { NODE_FLAGS, probe, runningService, SERVICE_ENVIRONMENT, SERVICE_MAIN } from '../service.js'
import { exitCodeOf, onSignals } from '../signals.js'
import { print } from '../terminal.js'
import { utf8Path } from '../utf8-path.js'

interface UpOptions {
  readonly detach?: boolean
  readonly data?: string
  readonly socket?: string
  readonly listen?: string
  readonly rejoin?: boolean
}

const POLL = 50
/** As much of the log's end as can hold the line that says why. */
const TAIL = 64 * 1024
/**
 * A log of more than this is put aside at a start, in the place of the one that was put aside
 * before.
 */
const MAX_LOG = 64 * 1024 * 1024

/**
 * A flag, else its variable (docs/configuration.md), else the default. An empty variable is none.
 */
export function upCommand(program: Command, { environment: given }: Context): void {
  program
    .command('up')
    .description('start Strata on this machine')
    .option('-d, --detach', 'in the background; returns when it is ready')
    .option('--data <dir>', `the folder for everything that is kept (STRATA_DATA, ${DEFAULT_DATA})`)
    .option('--socket <path>', `the unix socket to listen on (STRATA_SOCKET, ${DEFAULT_SOCKET})`)
    .option('--listen <host:port>', 'listen on TCP as well; a token is needed there (STRATA_LISTEN)')
    .option('--rejoin', 'come back as a node that was removed (strata node rm), with its containers')
    .action(async (options: UpOptions) => {
      const data = utf8Path(resolve(options.data ?? (given['STRATA_DATA'] || DEFAULT_DATA)))
      const socket = utf8Path(resolve(options.socket ?? (given['STRATA_SOCKET'] || DEFAULT_SOCKET)))
      const environment = {
        ...SERVICE_ENVIRONMENT,
        ...given,
        STRATA_DATA: data,
        STRATA_SOCKET: socket,
        STRATA_LISTEN: options.listen ?? given['STRATA_LISTEN'] ?? '',
        ...(options.rejoin && { STRATA_REJOIN: 'true' }),
      }
      if (!existsSync(SERVICE_MAIN)) throw new CliError('not built yet: run `npm run build` in the checkout')
      // An error, where docker compose says nothing: the one that runs may have another folder than
      // was asked for.
      if ((await probe(socket)) !== 'absent') {
        const pid = runningService(socket)?.pid
        throw new CliError(`Strata is already running at unix://${socket}${pid === undefined ? '' : ` (pid ${pid})`}`)
      }
      if (options.detach) await detach(data, socket, environment)
      // In the foreground this process becomes the service: its signals, output and exit code need
      // nobody in between.
      else process.execve!(process.execPath, [process.execPath, ...NODE_FLAGS, SERVICE_MAIN], environment)
    })
}

async function detach(data: string, socket: string, environment: NodeJS.ProcessEnv): Promise<void> {
  const path = join(data, 'strata.log')
  const log = openLog(data, path)
  const before = fstatSync(log).size
  const child = spawn(process.execPath, [...NODE_FLAGS, SERVICE_MAIN], {
    detached: true,
    stdio: ['ignore', log, log],
    env: environment,
    cwd: '/',
  })
  const release = onSignals(['SIGINT', 'SIGTERM', 'SIGHUP'], (signal) => {
    child.kill('SIGTERM')
    process.exit(exitCodeOf(signal))
  })
  try {
    if (!(await isUp(child, socket))) throw new CliError(`Strata did not start: ${lastLine(log, path, before)}`)
  } finally {
    release()
    child.unref()
    closeSync(log)
  }
  print(`Strata is running at unix://${socket} (pid ${child.pid ?? ''}, log ${path})`)
  if (socket !== DEFAULT_SOCKET) print(`For the other commands: export STRATA_HOST=unix://${socket}`)
}

function openLog(data: string, path: string): number {
  try {
    mkdirSync(data, { recursive: true, mode: 0o700 })
    if ((statSync(path, { throwIfNoEntry: false })?.size ?? 0) > MAX_LOG) renameSync(path, `${path}.1`)
    return openSync(path, 'a+', 0o600)
  } catch (error) {
    throw new CliError(
      `cannot write ${path}: ${reasonOf(error)}. Start as root, or choose another folder with --data`,
      { cause: error },
    )
  }
}

async function isUp(child: ChildProcess, socket: string): Promise<boolean> {
  let ended = false
  child.once('exit', () => (ended = true))
  child.once('error', () => (ended = true))
  for (;;) {
    if ((await probe(socket)) === 'ready') return true
    // eslint-disable-next-line @typescript-eslint/no-unnecessary-condition -- listeners set it
    if (ended) return false
    await sleep(POLL)
  }
}

/** Why it ended: the last error it told, all of it, or the last line it wrote. */
function lastLine(log: number, path: string, since: number): string {
  const { size } = fstatSync(log)
  const start = Math.max(since, size - TAIL)
  const buffer = Buffer.alloc(size - start)
  const read = readSync(log, buffer, 0, buffer.length, start)
  const lines = buffer
    .toString('utf8', 0, read)
    .split('\n')
    .filter((line) => line.trim() !== '')
  const records = lines.map((line, at) => errorOf(line, lines.slice(at + 1)))
  return records.findLast((message) => message !== undefined) ?? lines.at(-1) ?? `it ended without a word; see ${path}`
}

/**
 * The sentence of a line on stderr that begins `strata: `, with the list below it (all that is
 * wrong with a configuration), or of a record of level error or fatal (libs/platform, logging.ts).
 */
function errorOf(line: string, below: readonly string[]): string | undefined {
  if (line.startsWith('strata: ')) {
    const end = below.findIndex((next) => !next.startsWith('  '))
    return [line.slice('strata: '.length), ...below.slice(0, end < 0 ? undefined : end)].join('\n')
  }
  try {
    const record = JSON.parse(line) as { level?: unknown; msg?: unknown } | null
    return (record?.level === 'error' || record?.level === 'fatal') && typeof record.msg === 'string'
      ? record.msg
      : undefined
  } catch {
    return undefined
  }
}
