import type { Command } from 'commander'
import type { CreateContainer } from '@strata/api'
import type { ErrorCode } from '@strata/base'
import { attend, OutputGone, withSignals } from '../attend.js'
import type { Client } from '../client.js'
import { containerRequest, withContainerOptions, type ContainerOptions } from '../container-options.js'
import { type Context } from '../context.js'
import { CliError, EXIT_NOT_RUN } from '../errors.js'
import { withImage } from '../pull-policy.js'
import { print } from '../terminal.js'

interface RunOptions extends ContainerOptions {
  readonly detach?: boolean
}

export function runCommand(program: Command, context: Context): void {
  withContainerOptions(program.command('run').description('launch a container from an image'))
    .option('-d, --detach', 'run in the background and print the id')
    .action(async (image: string, command: string[], options: RunOptions) => {
      try {
        const request = containerRequest(image, command, options, context.environment)
        const client = context.client()
        await withImage(client, context, image, options, () =>
          run(client, { ...request, attach: !options.detach }, options),
        )
      } catch (error) {
        throw error instanceof CliError ? withExitCode(error) : error
      }
    })
}

async function run(client: Client, body: CreateContainer, options: RunOptions): Promise<void> {
  await withSignals(
    client,
    (job) => client.call('createContainer', { query: { job }, body }),
    async (id) => {
      if (options.detach) return print(id)
      process.exitCode = await attend(client, id)
      // The node removes it by itself; asked for too, so that it and its name are gone when we are.
      if (options.rm) await client.call('removeContainer', { params: { id } }).catch(() => undefined)
    },
  )
}

const EXIT_CODES: Partial<Record<ErrorCode, number>> = { command_not_executable: 126, command_not_found: 127 }

/**
 * docker's codes: 126 and 127 for a command that cannot be run, 125 for all else that is not the
 * container's own end.
 */
function withExitCode(error: CliError): CliError {
  if (error.exitCode !== 1 || error instanceof OutputGone) return error
  return new CliError(error.message, {
    exitCode: EXIT_CODES[error.code ?? 'internal'] ?? EXIT_NOT_RUN,
    code: error.code,
    cause: error,
  })
}
