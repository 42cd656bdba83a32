import type { CollectRequest, CollectResult, DiskUsage } from '@strata/api'
import type { Command } from 'commander'
import { type Context } from '../context.js'
import { CliError } from '../errors.js'
import { humanSize } from '../format/units.js'
import { printList, withFormat, type Listing, type ListOptions } from '../list.js'
import { stdout } from '../output.js'
import { complain, print } from '../terminal.js'

interface PruneOptions {
  readonly force?: boolean
  readonly dryRun?: boolean
}

const WARNING = `WARNING! This will remove:
  - all stopped containers
  - all images without a tag that no container uses
  - what no image, container, mount or running job needs: in the store and on every node

Are you sure you want to continue? [y/N] `

/** docker's `system df` and `system prune`. */
export function diskCommands(system: Command, context: Context): void {
  withFormat(system.command('df').description('show disk usage')).action(async ({ format }: ListOptions) => {
    const usage = await context.client().call('diskUsage', {})
    printList(usageRows(usage), { format }, USAGE)
    warnOfAbsent(
      usage.nodes
        .filter(({ answers }) => !answers)
        .map(({ node }) => ({ node, reason: `the node ${node} does not answer` })),
    )
  })

  system
    .command('prune')
    .description('remove stopped containers, images without a tag, and all data that nothing needs any more')
    .option('-f, --force', 'do not ask')
    .option('--dry-run', 'only say what would be removed')
    .action(async ({ force, dryRun }: PruneOptions) => {
      if (!force && !dryRun && !(await isSure())) throw new CliError('nothing was removed')
      await prune(context, dryRun ?? false)
    })
}

/**
 * Which containers have ended is each node's to say: a list that was read here would be old when it
 * comes back there.
 */
async function prune(context: Context, dryRun: boolean): Promise<void> {
  const client = context.client()
  const { containers, absent } = await client.call('pruneContainers', { body: { dryRun } })
  const gone = containers.map(({ id }) => id)
  const body: CollectRequest = dryRun ? { dryRun, untagged: true, absentContainers: gone } : { untagged: true }
  const result = await client.call('collect', { body })
  printGroup(dryRun ? 'Containers to delete' : 'Deleted Containers', gone)
  printGroup(dryRun ? 'Images to delete' : 'Deleted Images', result.images)
  printGroup(dryRun ? 'Data to delete' : 'Deleted Data', dataLines(result))
  const silent = result.nodes.flatMap((node) => (node.done ? [] : [node]))
  warnOfAbsent([...absent.filter(({ node }) => !silent.some((other) => other.node === node)), ...silent])
  warnOfUnreadable(result)
  warnOfUndeleted(result)
  const written = containers.reduce((sum, { bytes }) => sum + bytes, 0)
  print(`Total ${dryRun ? 'reclaimable' : 'reclaimed'} space: ${humanSize(result.bytes + written)}`)
}

function dataLines({ store, nodes }: CollectResult): string[] {
  const { blobs, data, indexes, partialUploads } = store
  const line = (place: string, parts: readonly (readonly [string, { count: number; bytes: number }])[]): string[] => {
    const there = parts
      .filter(([, { count }]) => count > 0)
      .map(([what, { count, bytes }]) => `${count} ${what} (${humanSize(bytes)})`)
    return there.length > 0 ? [`${place}: ${there.join(', ')}`] : []
  }
  return [
    ...line('store', [
      ['blobs', blobs],
      ['left-over objects', data],
      ['indexes', indexes],
      ['unfinished uploads', partialUploads],
    ]),
    ...nodes.flatMap((node) =>
      node.done
        ? line(`node ${node.node}`, [
            ['roots', node.roots],
            ['layers', node.layers],
          ])
        : [],
    ),
  ]
}

function printGroup(title: string, lines: readonly string[]): void {
  if (lines.length > 0) for (const line of [`${title}:`, ...lines, '']) print(line)
}

function warnOfAbsent(nodes: readonly { readonly node: string; readonly reason: string }[]): void {
  for (const { reason } of nodes) complain(reason)
  if (nodes.length > 0) process.exitCode = 1
}

/** What cannot be read keeps bytes in the store until somebody removes it or loads it again. */
function warnOfUnreadable(result: CollectResult): void {
  // A service of an older release tells nothing of it.
  const { count, first } = (result as Partial<CollectResult>).unreadable ?? { count: 0, first: [] }
  for (const { reason } of first) complain(reason)
  if (count > first.length) complain(`${count - first.length} more cannot be read: see the log of the storage service`)
  if (count > 0) process.exitCode = 1
}

function warnOfUndeleted({ store }: CollectResult): void {
  // A service of an older release tells nothing of it.
  const { count, bytes } = (store as Partial<CollectResult['store']>).undeleted ?? { count: 0, bytes: 0 }
  if (count === 0) return
  complain(`the store does not delete ${count} objects (${humanSize(bytes)}) now, while clients read them: prune again`)
  process.exitCode = 1
}

/** As docker: a line is read wherever stdin comes from, and only y goes on. */
async function isSure(): Promise<boolean> {
  stdout.write(WARNING)
  let text = ''
  for await (const piece of process.stdin.setEncoding('utf8') as AsyncIterable<string>) {
    text += piece
    if (text.includes('\n')) break
  }
  process.stdin.pause()
  return text.split('\n', 1)[0]?.trim().toLowerCase() === 'y'
}

const USAGE = {
  titles: { Type: 'TYPE', TotalCount: 'TOTAL', Active: 'ACTIVE', Size: 'SIZE', Reclaimable: 'RECLAIMABLE' },
  columns: ['Type', 'TotalCount', 'Active', 'Size', 'Reclaimable'],
  rows: (row) => [row],
  id: (row) => row.Type,
} as const satisfies Listing<UsageRow>

type UsageRow = Readonly<Record<'Type' | 'TotalCount' | 'Active' | 'Size' | 'Reclaimable', string>>

function usageRows({ images, containers, layers }: DiskUsage): UsageRow[] {
  return (
    [
      ['Images', images],
      ['Containers', containers],
      ['Layers on nodes', layers],
    ] as const
  ).map(([type, { total, active, bytes, reclaimable }]) => ({
    Type: type,
    TotalCount: String(total),
    Active: String(active),
    Size: humanSize(bytes),
    Reclaimable: `${humanSize(reclaimable)}${bytes > 0 ? ` (${Math.trunc((reclaimable * 100) / bytes)}%)` : ''}`,
  }))
}
