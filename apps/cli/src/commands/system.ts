import type { InfoView, VersionView } from '@strata/api'
import type { Command } from 'commander'
import { type Context } from '../context.js'
import { CliError, EXIT_NOT_RUN } from '../errors.js'
import { withFormat, type ListOptions } from '../list.js'
import { diskCommands } from './prune.js'
import { print, printText } from '../terminal.js'

export function systemCommands(program: Command, context: Context, clientVersion: string): void {
  withFormat(program.command('info').description('what runs here: nodes, drivers, counts')).action(
    async ({ format }: ListOptions) => {
      const info = await context.client().call('info', {})
      if (format === 'json') print(JSON.stringify(info))
      else for (const line of infoLines(info)) print(line)
    },
  )

  const system = program.command('system').description('disk usage, and what to do about it')
  diskCommands(system, context)
  system.allowExcessArguments().action(() => {
    const [name] = system.args
    if (name === undefined) system.outputHelp()
    else
      throw new CliError(`'system ${name}' is not a strata command. See 'strata system --help'`, {
        exitCode: EXIT_NOT_RUN,
      })
  })

  withFormat(program.command('version').description('versions of this client and of the service')).action(
    async ({ format }: ListOptions) => {
      const client = { version: clientVersion, node: process.versions.node }
      if (format !== 'json') printText(`Client:\n Version:  ${client.version}\n Node.js:  ${client.node}\n`)
      const server = await context.client().call('version', {})
      if (format === 'json') print(JSON.stringify({ client, server }))
      else for (const line of serverLines(server)) print(line)
    },
  )
}

function serverLines({ version, api, node }: VersionView): string[] {
  return ['Server:', ` Version:  ${version}`, ` API:      ${api}`, ` Node.js:  ${node}`]
}

function infoLines({ version, images, containers, nodes }: InfoView): string[] {
  const { running, exited, created, unknown } = containers
  return [
    `Version: ${version}`,
    `Images: ${images}`,
    `Containers: ${running + exited + created + unknown}`,
    ` Running: ${running}`,
    ` Exited: ${exited}`,
    ` Created: ${created}`,
    ...(unknown > 0 ? [` Unknown: ${unknown}`] : []),
    `Nodes: ${nodes.length}`,
    ...nodes.flatMap((node) => [
      ` ${node.id}`,
      `  Snapshotter: ${node.driver} (${node.driverReason})`,
      `  Runtime: ${node.runtime}`,
      `  Kernel: ${node.kernel}`,
      ...node.warnings.map((warning) => `  WARNING: ${warning}`),
    ]),
  ]
}
