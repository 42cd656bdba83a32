import type { NodeView } from '@strata/api'
import type { Command } from 'commander'
import { type Context } from '../context.js'
import { CliError, EXIT_NOT_RUN } from '../errors.js'
import { every } from '../every.js'
import { ago } from '../format/units.js'
import { printList, withListOptions, type ListOptions } from '../list.js'
import { allPages } from '../pages.js'
import { print } from '../terminal.js'

/** docker's `node ls` and `node rm`. */
export function nodeCommands(program: Command, context: Context): void {
  const node = program.command('node').description('the machines that containers run on')
  withListOptions(node.command('ls').description('list nodes, also those that are gone')).action(
    async (options: ListOptions) => {
      const client = context.client()
      const nodes = await allPages(async (page) => {
        const { nodes: items, next } = await client.call('listNodes', { query: { ...page } })
        return { items, next }
      })
      const now = Date.now()
      printList(nodes, options, {
        titles: {
          ID: 'ID',
          Hostname: 'HOSTNAME',
          Status: 'STATUS',
          Driver: 'DRIVER',
          Runtime: 'RUNTIME',
          Kernel: 'KERNEL',
          Containers: 'CONTAINERS',
        },
        columns: ['ID', 'Hostname', 'Status', 'Driver', 'Runtime', 'Containers'],
        rows: (one) => [
          {
            ID: one.id,
            Hostname: one.host,
            Status: status(one, now),
            Driver: one.driver ?? '',
            Runtime: one.runtime ?? '',
            Kernel: one.kernel ?? '',
            Containers: String(one.containers),
          },
        ],
        id: (one) => one.id,
      })
    },
  )

  node
    .command('rm')
    .description('forget nodes that are gone for good, and their containers')
    .argument('<node...>')
    .option('-f, --force', 'also with containers that may still be running on it')
    .action(async (ids: string[], { force }: { force?: boolean }) => {
      await every(
        ids,
        (id) => context.client().call('removeNode', { params: { id }, query: { force: force ?? false } }),
        print,
      )
    })

  node.allowExcessArguments().action(() => {
    const [name] = node.args
    if (name === undefined) node.outputHelp()
    else
      throw new CliError(`'node ${name}' is not a strata command. See 'strata node --help'`, { exitCode: EXIT_NOT_RUN })
  })
}

const WORDS: Readonly<Record<NodeView['state'], string>> = {
  ready: 'Ready',
  no_extractor: 'No extractor',
  no_runtime: 'No runtime',
  gone: 'Gone',
}

function status({ state, since }: NodeView, now: number): string {
  return since === undefined ? WORDS[state] : `${WORDS[state]} (last seen ${ago(since, now)})`
}
