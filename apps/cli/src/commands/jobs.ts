import type { JobView } from '@strata/api'
import type { Command } from 'commander'
import type { Context } from '../context.js'
import { ago, goTime, humanSize } from '../format/units.js'
import { allPages } from '../pages.js'
import { printList, withListOptions, type ListOptions } from '../list.js'

export function jobsCommand(program: Command, context: Context): void {
  withListOptions(
    program
      .command('jobs')
      .description('list what requests became: loads, pulls and launches, those of the last day too'),
  ).action(async (options: ListOptions) => {
    const client = context.client()
    const jobs = await allPages(async (page) => {
      const { jobs: items, next } = await client.call('listJobs', { query: { ...page } })
      return { items, next }
    })
    const now = Date.now()
    printList(jobs, options, {
      titles: {
        ID: 'JOB ID',
        Kind: 'KIND',
        State: 'STATE',
        Step: 'STEP',
        Error: 'ERROR',
        Bytes: 'BYTES',
        Container: 'CONTAINER',
        CreatedSince: 'CREATED',
        CreatedAt: 'CREATED AT',
      },
      columns: ['ID', 'Kind', 'State', 'Step', 'Bytes', 'CreatedSince'],
      rows: (job) => [
        {
          ID: job.id,
          Kind: job.kind,
          State: job.state,
          Step: job.error?.message ?? job.step,
          Error: job.error?.code ?? '',
          Bytes: bytes(job),
          Container: job.container ?? '',
          CreatedSince: ago(job.createdAt, now),
          CreatedAt: goTime(job.createdAt),
        },
      ],
      id: (job) => job.id,
      json: (job) => job,
    })
  })
}

function bytes(job: JobView): string {
  if (job.kind !== 'load' && job.kind !== 'pull') return ''
  return job.total === undefined ? humanSize(job.bytes) : `${humanSize(job.bytes)}/${humanSize(job.total)}`
}
