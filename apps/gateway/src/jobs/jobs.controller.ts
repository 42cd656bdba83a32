import { once } from 'node:events'
import { Controller, Delete, Get, HttpCode, Param, Query, Req, Res } from '@nestjs/common'
import { ApiOperation, ApiResponse, ApiTags } from '@nestjs/swagger'
import { isTerminal, jobSchema, uuid } from '@strata/api'
import { closedSignal } from '@strata/platform'
import { Journal, type JournalRecord } from '@strata/queue'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { z } from 'zod'
import { answersProblems } from '../problems.js'
import { Cancellation } from './cancellation.js'

const jobListSchema = z.object({ jobs: z.array(jobSchema) }).meta({ id: 'JobList' })
const listQuery = z.object({ limit: z.coerce.number().int().min(1).max(1_000).default(100) })

@ApiTags('jobs')
@Controller('v1/jobs')
export class JobsController {
  constructor(
    private readonly journal: Journal,
    private readonly cancellation: Cancellation,
  ) {}

  @Get()
  @ApiOperation({ summary: 'The newest jobs' })
  @ApiResponse({ status: 200, standardSchema: jobListSchema })
  async list(@Query({ schema: listQuery }) query: z.infer<typeof listQuery>): Promise<{ jobs: JournalRecord[] }> {
    return { jobs: await this.journal.list(query.limit) }
  }

  @Get(':id')
  @ApiOperation({ summary: 'A job: what a request became' })
  @ApiResponse({ status: 200, standardSchema: jobSchema })
  @answersProblems('job_not_found', 'job_expired')
  async get(@Param('id', { schema: uuid }) id: string): Promise<JournalRecord> {
    return this.journal.get(id)
  }

  @Delete(':id')
  @HttpCode(202)
  @ApiOperation({ summary: 'Cancels a job, in whatever state it is' })
  @ApiResponse({ status: 202, standardSchema: jobSchema })
  @answersProblems('job_not_found', 'job_expired')
  async cancel(@Param('id', { schema: uuid }) id: string): Promise<JournalRecord> {
    await this.cancellation.cancel(id)
    return this.journal.get(id)
  }

  /**
   * Begins with the job as it is, so a client that comes back needs no history: every event is the
   * whole record, and its id tells whether `Last-Event-ID` has missed anything. `progress` while it
   * goes on, `end` once.
   */
  @Get(':id/events')
  @ApiOperation({ summary: 'Follows a job by server-sent events: `progress`, then `end`; data is the job' })
  @ApiResponse({ status: 200, content: { 'text/event-stream': {} } })
  @answersProblems('job_not_found', 'job_expired')
  async events(
    @Param('id', { schema: uuid }) id: string,
    @Req() request: FastifyRequest,
    @Res() reply: FastifyReply,
  ): Promise<void> {
    const first = await this.journal.get(id)
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
      for await (const job of isTerminal(first.state) ? [first] : this.journal.follow(id, gone)) {
        if (job.updatedAt === seen && !isTerminal(job.state)) continue
        seen = job.updatedAt
        const event = isTerminal(job.state) ? 'end' : 'progress'
        const isTaken = response.write(`id: ${job.updatedAt}\nevent: ${event}\ndata: ${JSON.stringify(job)}\n\n`)
        // A client that does not read misses what lies between: what is asked for next is the
        // newest state.
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
