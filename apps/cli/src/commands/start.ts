import type { Command } from 'commander'
import { attend, withSignals } from '../attend.js'
import { containerRequest, withContainerOptions, type ContainerOptions } from '../container-options.js'
import { type Context } from '../context.js'
import { CliError } from '../errors.js'
import { every } from '../every.js'
import { withImage } from '../pull-policy.js'
import { print } from '../terminal.js'

/** `create` and `start`: the two halves of `run`. */
export function startCommands(program: Command, context: Context): void {
  withContainerOptions(program.command('create').description('create a container, and start nothing')).action(
    async (image: string, command: string[], options: ContainerOptions) => {
      const client = context.client()
      const body = containerRequest(image, command, options, context.environment)
      await withImage(client, context, image, options, () =>
        withSignals(
          client,
          (job) => client.call('createContainer', { query: { job, start: false }, body }),
          (id) => Promise.resolve(print(id)),
          async (id) => {
            await client.call('removeContainer', { params: { id } })
          },
        ),
      )
    },
  )

  program
    .command('start')
    .description('start containers that were created or have ended')
    .argument('<container...>')
    .option('-a, --attach', 'show the output and end with the exit code; one container only')
    .action(async (names: string[], { attach: isAttached }: { attach?: boolean }) => {
      const client = context.client()
      const [name = '', ...others] = names
      const startOne = async (one: string): Promise<void> => {
        await client.call('startContainer', { params: { id: one } })
      }
      if (!isAttached) return every(names, startOne, print)
      if (others.length > 0) throw new CliError('you cannot start and attach multiple containers at once')
      await withSignals(
        client,
        (job) => client.call('startContainer', { params: { id: name }, query: { job, attach: true } }),
        async (id) => {
          process.exitCode = await attend(client, id)
        },
      )
    })
}
