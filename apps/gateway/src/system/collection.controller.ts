import { randomUUID } from 'node:crypto'
import { Body, Controller, Get, HttpCode, Post, Query, Res } from '@nestjs/common'
import { ApiBody, ApiOperation, ApiResponse, ApiTags } from '@nestjs/swagger'
import {
  collectQuery,
  collectResultSchema,
  collectSchema,
  diskUsageSchema,
  type CollectRequest,
  type CollectResult,
  type DiskUsage as DiskUsageView,
} from '@strata/api'
import { asStrataError, failpoint, StrataError } from '@strata/base'
import { closedSignal } from '@strata/platform'
import { Journal, Producer, QUEUES } from '@strata/queue'
import type { FastifyReply } from 'fastify'
import type { z } from 'zod'
import { answersProblems } from '../problems.js'
import { DiskUsage } from './disk-usage.js'

@ApiTags('system')
@Controller('v1')
export class CollectionController {
  constructor(
    private readonly journal: Journal,
    private readonly producer: Producer,
    private readonly usage: DiskUsage,
  ) {}

  @Post('gc')
  @HttpCode(200)
  @ApiOperation({
    summary:
      'Frees what nobody needs: blobs of the store that no image refers to and no upload holds; then roots and layers on each node. Removes no image that has a tag, and no container',
  })
  @ApiBody({ standardSchema: collectSchema, required: false } as object)
  @ApiResponse({ status: 200, standardSchema: collectResultSchema })
  @ApiResponse({ status: 202, description: 'with ?wait=false; Location is the job' })
  @answersProblems('bad_request', 'job_exists', 'corrupt', 'queue_unavailable', 'store_unavailable')
  async collect(
    @Body({ schema: collectSchema.nullish() }) body: CollectRequest | null | undefined,
    @Query({ schema: collectQuery }) query: z.infer<typeof collectQuery>,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<CollectResult | undefined> {
    const job = query.job ?? randomUUID()
    const request = collectSchema.parse(body ?? {})
    await this.journal.create(job, 'collect', 'waiting')
    failpoint('collect.journal-made')
    try {
      await this.producer.add({ name: 'collect', queue: QUEUES.collect, id: job, data: { root: job, ...request } })
    } catch (error) {
      await this.journal.fail(job, asStrataError(error)).catch(() => undefined)
      throw error
    }
    void reply.header('location', `/v1/jobs/${job}`)
    if (!query.wait) {
      void reply.status(202)
      return undefined
    }
    const { error, result } = await this.journal.end(job, closedSignal(reply.raw))
    if (error) throw new StrataError(error.code, error.message)
    return result as CollectResult
  }

  @Get('system/df')
  @ApiOperation({ summary: 'Bytes on disk: images in the store, what containers have written, layers on the nodes' })
  @ApiResponse({ status: 200, standardSchema: diskUsageSchema })
  @answersProblems('queue_unavailable', 'store_unavailable')
  async df(@Res({ passthrough: true }) reply: FastifyReply): Promise<DiskUsageView> {
    return this.usage.measure(closedSignal(reply.raw))
  }
}
