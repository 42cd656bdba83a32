import { resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Command } from 'commander'
import { DEFAULT_SOCKET } from '../endpoint.js'
import { CliError } from '../errors.js'
import { isRunning, probe, runningService } from '../service.js'
import { print } from '../terminal.js'

const POLL = 25

export function downCommand(program: Command): void {
  program
    .command('down')
    .description('stop the Strata of this machine; containers run on')
    .option('--socket <path>', 'the socket it listens on', DEFAULT_SOCKET)
    .action(async (options: { socket: string }) => {
      const socket = resolve(options.socket)
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

function end(pid: number): void {
  try {
    process.kill(pid, 'SIGTERM')
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    if (code === 'EPERM') throw new CliError(`no right to stop Strata (pid ${pid}): be root`, { cause: error })
    if (code !== 'ESRCH') throw error
  }
}
