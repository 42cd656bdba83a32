import { randomUUID } from 'node:crypto'
import { Body, Controller, Query, Res } from '@nestjs/common'
import { ApiBody, ApiResponse, ApiTags } from '@nestjs/swagger'
import { API, collectSchema, type CollectRequest, type CollectResult, type DiskUsage } from '@strata/api'
import { closedSignal } from '@strata/platform'
import type { FastifyReply } from 'fastify'
import type { z } from 'zod'
import { Endpoint } from '../endpoint.js'
import { CollectionService } from './collection.service.js'
import { DiskUsageService } from './disk-usage.service.js'

@ApiTags('system')
@Controller()
export class CollectionController {
  constructor(
    private readonly collection: CollectionService,
    private readonly usage: DiskUsageService,
  ) {}

  @Endpoint(
    API.collect,
    'Frees what nobody needs: blobs of the store that no image refers to and no upload holds; then roots and layers on each node. Removes no image that has a tag, and no container',
    ['bad_request', 'job_exists', 'corrupt', 'queue_unavailable', 'store_unavailable'],
  )
  @ApiBody({ standardSchema: collectSchema, required: false } as object)
  @ApiResponse({ status: 202, description: 'with ?wait=false; Location is the job' })
  async collect(
    @Body({ schema: API.collect.body }) body: CollectRequest | null | undefined,
    @Query({ schema: API.collect.query }) query: z.infer<typeof API.collect.query>,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<CollectResult | undefined> {
    const job = query.job ?? randomUUID()
    await this.collection.begin(body ?? {}, job)
    void reply.header('location', `/v1/jobs/${job}`)
    if (query.wait) return this.collection.result(job, closedSignal(reply.raw))
    void reply.status(202)
    return undefined
  }

  @Endpoint(API.diskUsage, 'Bytes on disk: images in the store, what containers have written, layers on the nodes', [
    'queue_unavailable',
    'store_unavailable',
  ])
  async df(@Res({ passthrough: true }) reply: FastifyReply): Promise<DiskUsage> {
    return this.usage.measure(closedSignal(reply.raw))
  }
}
