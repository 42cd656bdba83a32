import type { JobView } from '@strata/api'
import type { Command } from 'commander'
import type { Context } from '../context.js'
import { ago, humanSize } from '../format/units.js'
import { allPages } from '../pages.js'
import { printList, withListOptions, type ListOptions } from '../list.js'

export function jobsCommand(program: Command, context: Context): void {
  withListOptions(
    program.command('jobs').description('list what requests became: loads and launches, those of the last day too'),
  ).action(async (options: ListOptions) => {
    const client = context.client()
    const jobs = await allPages(async (page) => {
      const { jobs: items, next } = await client.call('listJobs', { query: { ...page } })
      return { items, next }
    })
    const now = Date.now()
    printList(jobs, options, {
      header: ['JOB ID', 'KIND', 'STATE', 'STEP', 'BYTES', 'CREATED'],
      rows: (job) => [
        [job.id, job.kind, job.state, job.error?.message ?? job.step, bytes(job), ago(job.createdAt, now)],
      ],
      id: (job) => job.id,
    })
  })
}

function bytes(job: JobView): string {
  if (job.kind !== 'load') return ''
  return job.total === undefined ? humanSize(job.bytes) : `${humanSize(job.bytes)}/${humanSize(job.total)}`
}
