import { resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Command } from 'commander'
import type { Context } from '../context.js'
import { DEFAULT_SOCKET, readEndpoint } from '../endpoint.js'
import { CliError } from '../errors.js'
import { isRunning, probe, runningService } from '../service.js'
import { print } from '../terminal.js'
import { utf8Path } from '../utf8-path.js'

const POLL = 25

export function downCommand(program: Command, { environment }: Context): void {
  program
    .command('down')
    .description('stop the Strata of this machine; containers run on')
    .option('--socket <path>', `the socket it listens on (STRATA_HOST, STRATA_SOCKET, ${DEFAULT_SOCKET})`)
    .action(async (options: { socket?: string }) => {
      const socket = utf8Path(resolve(options.socket ?? socketOf(environment)))
      const service = runningService(socket)
      if (service === undefined) {
        if ((await probe(socket)) !== 'absent')
          throw new CliError(
            `what answers at unix://${socket} was not started from this checkout: its pid is not in ${socket}.pid`,
          )
        // What was asked for is so: no error, as `docker compose down`.
        print(`Strata is not running at unix://${socket}`)
        return
      }
      end(service.pid)
      while (isRunning(service)) await sleep(POLL)
      print('Strata is stopped; containers run on')
    })
}

/**
 * The socket that all other commands use, else the one that `up` listens on. Only what listens on a
 * socket of this machine can be stopped here.
 */
function socketOf(environment: NodeJS.ProcessEnv): string {
  if (!environment['STRATA_HOST']) return environment['STRATA_SOCKET'] || DEFAULT_SOCKET
  const endpoint = readEndpoint(environment)
  if (endpoint.kind === 'unix') return endpoint.socketPath
  throw new CliError(
    `STRATA_HOST is ${endpoint.name}, and down stops a Strata of this machine only: name its socket with --socket`,
  )
}

function end(pid: number): void {
  try {
    process.kill(pid, 'SIGTERM')
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    if (code === 'EPERM') throw new CliError(`no right to stop Strata (pid ${pid}): be root`, { cause: error })
    if (code !== 'ESRCH') throw error
  }
}
