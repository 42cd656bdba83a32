import type { ContainerView } from '@strata/api'
import { InvalidArgumentError, type Command } from 'commander'
import { type Context } from '../context.js'
import { every } from '../every.js'
import { shortId } from '../format/table.js'
import { ago, goTime, humanDuration } from '../format/units.js'
import { printList, withListOptions, type ListOptions } from '../list.js'
import { allPages } from '../pages.js'
import { print } from '../terminal.js'

export function containerCommands(program: Command, context: Context): void {
  withListOptions(
    program.command('ps').description('list containers').option('-a, --all', 'also those that do not run'),
  ).action(async (options: ListOptions & { all?: boolean }) => {
    const client = context.client()
    const containers = await allPages(async (page) => {
      const query = { ...page, all: options.all ?? false }
      const { containers: items, next } = await client.call('listContainers', { query })
      return { items, next }
    })
    // Each page is sorted in itself only.
    containers.sort((a, b) => (a.createdAt < b.createdAt ? 1 : a.createdAt > b.createdAt ? -1 : 0))
    const now = Date.now()
    printList(containers, options, {
      titles: {
        ID: 'CONTAINER ID',
        Image: 'IMAGE',
        Command: 'COMMAND',
        RunningFor: 'CREATED',
        CreatedAt: 'CREATED AT',
        State: 'STATE',
        Status: 'STATUS',
        Ports: 'PORTS',
        Names: 'NAMES',
        Labels: 'LABELS',
        Mounts: 'MOUNTS',
        LocalVolumes: 'LOCAL VOLUMES',
        Networks: 'NETWORKS',
        Node: 'NODE',
      },
      columns: ['ID', 'Image', 'Command', 'RunningFor', 'Status', 'Names'],
      rows: (one) => [
        {
          ID: shortId(one.id),
          Image: one.image,
          Command: commandText(one.command),
          RunningFor: ago(one.createdAt, now),
          CreatedAt: goTime(one.createdAt),
          State: one.state,
          Status: status(one, now),
          Ports: '',
          Names: one.name,
          Labels: '',
          Mounts: '',
          LocalVolumes: '0',
          Networks: one.network,
          Node: one.node,
        },
      ],
      id: (one) => shortId(one.id),
    })
  })

  program
    .command('wait')
    .description('wait until containers end, and print their exit codes')
    .argument('<container...>')
    .action(async (names: string[]) => {
      const codes = new Map<string, number>()
      await every(
        names,
        async (name) =>
          void codes.set(name, (await context.client().call('waitContainer', { params: { id: name } })).exitCode),
        (name) => print(String(codes.get(name))),
      )
    })

  program
    .command('stop')
    .description('stop containers: their stop signal, then SIGKILL')
    .argument('<container...>')
    .option('-t, --timeout <seconds>', 'seconds before SIGKILL (default 10); -1 for never', wholeNumber)
    .action(async (names: string[], { timeout }: { timeout?: number }) => {
      const body = timeout === undefined ? {} : { timeout }
      await every(names, (name) => context.client().call('stopContainer', { params: { id: name }, body }), print)
    })

  program
    .command('kill')
    .description('send a signal to containers')
    .argument('<container...>')
    .option('-s, --signal <signal>', 'name or number', 'KILL')
    .action(async (names: string[], { signal }: { signal: string }) => {
      await every(
        names,
        (name) =>
          context.client().call('killContainer', { params: { id: name }, body: { signal: signal.toUpperCase() } }),
        print,
      )
    })

  program
    .command('rm')
    .description('remove containers')
    .argument('<container...>')
    .option('-f, --force', 'also one that runs: it is killed')
    .action(async (names: string[], { force }: { force?: boolean }) => {
      await every(
        names,
        (name) => context.client().call('removeContainer', { params: { id: name }, query: { force: force ?? false } }),
        print,
      )
    })
}

/** As docker shows it: in quotes, twenty characters at most. */
export function commandText(command: readonly string[]): string {
  const text = command.join(' ')
  return `"${text.length > 20 ? `${text.slice(0, 19)}…` : text}"`
}

export function status(one: ContainerView, now: number): string {
  if (one.state === 'created') return 'Created'
  if (one.state === 'running') return `Up ${humanDuration(now - Date.parse(one.startedAt ?? one.createdAt))}`
  if (one.state === 'unknown') return `Unknown${one.reason === undefined ? '' : `: ${one.reason}`}`
  return `Exited (${one.exitCode ?? 0}) ${ago(one.finishedAt, now)}${one.reason === undefined ? '' : `: ${one.reason}`}`
}

function wholeNumber(text: string): number {
  if (!/^-?\d{1,9}$/.test(text)) throw new InvalidArgumentError('Not a whole number.')
  return Number(text)
}
