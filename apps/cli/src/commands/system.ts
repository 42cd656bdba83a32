import type { InfoView, VersionView } from '@strata/api'
import type { Command } from 'commander'
import { type Context } from '../context.js'
import { CliError, EXIT_NOT_RUN } from '../errors.js'
import { printOne, withFormat, type ListOptions } from '../list.js'
import { diskCommands } from './prune.js'
import { printText } from '../terminal.js'

export function systemCommands(program: Command, context: Context, clientVersion: string): void {
  withFormat(program.command('info').description('what runs here: nodes, drivers, counts')).action(
    async ({ format }: ListOptions) => {
      const info = await context.client().call('info', {})
      printOne(
        format,
        info,
        () => infoFields(info),
        () => infoLines(info),
      )
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
      if (format.kind === 'table' && !format.render)
        printText(`Client:\n Version:  ${client.version}\n Node.js:  ${client.node}\n`)
      const server = await context.client().call('version', {})
      printOne(
        format,
        { client, server },
        () => ({
          Client: { Version: client.version, NodeVersion: client.node },
          Server: { Version: server.version, APIVersion: server.api, NodeVersion: server.node },
        }),
        () => serverLines(server),
      )
    },
  )
}

/** What docker's `info` has of the same, by its names. */
function infoFields({ version, images, containers, nodes }: InfoView): object {
  const { running, exited, created, unknown } = containers
  return {
    ServerVersion: version,
    Images: images,
    Containers: running + exited + created + unknown,
    ContainersRunning: running,
    ContainersPaused: 0,
    ContainersStopped: exited + created,
    Driver: nodes[0]?.driver ?? '',
    KernelVersion: nodes[0]?.kernel ?? '',
    Warnings: nodes.flatMap(({ warnings }) => warnings),
    Nodes: nodes.map((node) => ({
      ID: node.id,
      Driver: node.driver,
      Runtime: node.runtime,
      KernelVersion: node.kernel,
    })),
  }
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
