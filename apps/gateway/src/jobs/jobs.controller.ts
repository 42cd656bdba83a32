import { once } from 'node:events'
import { Controller, Param, Query, Req, Res } from '@nestjs/common'
import { ApiResponse, ApiTags } from '@nestjs/swagger'
import { API, isTerminal, type JobList } from '@strata/api'
import type { ErrorCode } from '@strata/base'
import { closedSignal } from '@strata/platform'
import type { JournalRecord } from '@strata/queue'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { z } from 'zod'
import { Endpoint } from '../endpoint.js'
import { Requests } from './requests.js'

const NAMES_JOB: readonly ErrorCode[] = ['job_not_found', 'job_expired']

@ApiTags('jobs')
@Controller()
export class JobsController {
  constructor(private readonly requests: Requests) {}

  @Endpoint(API.listJobs, 'Jobs in pages, the newest first', ['bad_request', 'queue_unavailable'])
  async list(
    @Query({ schema: API.listJobs.query }) { limit, after }: z.infer<typeof API.listJobs.query>,
  ): Promise<JobList> {
    return this.requests.page(limit, after)
  }

  @Endpoint(API.getJob, 'A job: what a request became', NAMES_JOB)
  async get(@Param('id', { schema: API.getJob.param }) id: string): Promise<JournalRecord> {
    return this.requests.get(id)
  }

  @Endpoint(API.cancelJob, 'Cancels a job, in whatever state it is', NAMES_JOB)
  async cancel(@Param('id', { schema: API.cancelJob.param }) id: string): Promise<JournalRecord> {
    await this.requests.cancel(id)
    return this.requests.get(id)
  }

  /**
   * The first event is the job's record as it is, so a client that connects again needs no history.
   * Every event is the whole record, and its id shows whether the record has changed since
   * `Last-Event-ID`. The event is `progress` while the job goes on, and `end` once.
   */
  @Endpoint(API.followJob, 'Follows a job by server-sent events: `progress`, then `end`; data is the job', NAMES_JOB)
  @ApiResponse({ status: 200, content: { 'text/event-stream': {} } })
  async events(
    @Param('id', { schema: API.followJob.param }) id: string,
    @Req() request: FastifyRequest,
    @Res() reply: FastifyReply,
  ): Promise<void> {
    const first = await this.requests.get(id)
    reply.hijack()
    const response = reply.raw
    const gone = closedSignal(response)
    if (gone.aborted) return
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' })
    response.flushHeaders()
    let seen = request.headers['last-event-id']
    // Proxies and clients take a silent connection for a dead one.
    const beat = setInterval(() => response.writableNeedDrain || response.write(':\n\n'), 15_000)
    try {
      for await (const job of isTerminal(first.state) ? [first] : this.requests.follow(id, gone)) {
        if (job.updatedAt === seen && !isTerminal(job.state)) continue
        seen = job.updatedAt
        const event = isTerminal(job.state) ? 'end' : 'progress'
        const isTaken = response.write(`id: ${job.updatedAt}\nevent: ${event}\ndata: ${JSON.stringify(job)}\n\n`)
        // A client that reads slowly misses states in between: the next event has the newest state.
        if (!isTaken) await once(response, 'drain', { signal: gone })
      }
    } catch (error) {
      if (!isAbort(error)) throw error
    } finally {
      clearInterval(beat)
      response.end()
    }
  }
}

/** What `once` throws when its signal aborts: the client has left. */
function isAbort(error: unknown): boolean {
  return error instanceof Error && error.name === 'AbortError'
}
