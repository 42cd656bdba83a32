import { randomUUID } from 'node:crypto'
import { pipeline } from 'node:stream/promises'
import { Body, Controller, Param, Query, Req, Res } from '@nestjs/common'
import { ApiBody, ApiResponse, ApiTags } from '@nestjs/swagger'
import {
  API,
  pruneContainersSchema,
  type ContainerList,
  type ContainerView,
  type CreateContainer,
  type ListContainers,
  type LogsQuery,
  type PruneContainers,
  type PrunedContainers,
  type WaitResult,
} from '@strata/api'
import { closedSignal, LargeJson, letClientPause } from '@strata/platform'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { z } from 'zod'
import { Endpoint } from '../endpoint.js'
import { ContainersService } from './containers.service.js'

@ApiTags('containers')
@Controller()
export class ContainersController {
  constructor(private readonly containers: ContainersService) {}

  @Endpoint(API.createContainer, 'Launches a container from an image; with ?start=false only creates it', [
    'image_not_found',
    'nothing_to_run',
    'container_exists',
    'launch_failed',
    'command_not_found',
    'command_not_executable',
    'node_unavailable',
    'queue_unavailable',
    'job_exists',
  ])
  @LargeJson()
  @ApiResponse({ status: 202, description: 'with ?wait=false; Location is the job' })
  async launch(
    @Body({ schema: API.createContainer.body }) body: CreateContainer,
    @Query({ schema: API.createContainer.query }) query: z.infer<typeof API.createContainer.query>,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<ContainerView | { id: string }> {
    const job = query.job ?? randomUUID()
    const id = await this.containers.launch(body, job, { start: query.start })
    void reply.header('location', query.wait ? `/v1/containers/${id}` : `/v1/jobs/${job}`)
    if (query.wait) return this.containers.launched(body.image, id, job, closedSignal(reply.raw))
    void reply.status(202)
    return { id }
  }

  @Endpoint(API.startContainer, 'Starts one that was created or has exited; answers at once if it runs', [
    'container_not_found',
    'container_ambiguous',
    'container_running',
    'in_use',
    'driver_unavailable',
    'image_not_found',
    'layer_missing',
    'cancelled',
    'launch_failed',
    'command_not_found',
    'command_not_executable',
    'node_unavailable',
    'queue_unavailable',
    'job_exists',
  ])
  @ApiResponse({ status: 202, description: 'with ?wait=false; Location is the job' })
  async start(
    @Param('id', { schema: API.startContainer.param }) ref: string,
    @Query({ schema: API.startContainer.query }) query: z.infer<typeof API.startContainer.query>,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<ContainerView | { id: string }> {
    const gone = closedSignal(reply.raw)
    const start = await this.containers.start(ref, query.job ?? randomUUID(), query.attach, gone)
    if (query.wait || start.job === undefined) return this.containers.started(start, gone)
    void reply.status(202).header('location', `/v1/jobs/${start.job}`)
    return { id: start.id }
  }

  @Endpoint(
    API.listContainers,
    'Containers in pages: those that run, or may run on a node that is gone; with ?all every one',
    ['queue_unavailable'],
  )
  async list(
    @Query({ schema: API.listContainers.query }) query: ListContainers,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<ContainerList> {
    return this.containers.list(query, closedSignal(reply.raw))
  }

  @Endpoint(
    API.pruneContainers,
    'Removes the containers that have exited or were never started. Each node decides by itself: one that is being created, launched or started, runs, or is still waited for stays',
    ['queue_unavailable'],
  )
  @ApiBody({ standardSchema: pruneContainersSchema, required: false } as object)
  async prune(
    @Body({ schema: API.pruneContainers.body }) body: PruneContainers | null | undefined,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<PrunedContainers> {
    return this.containers.prune(body ?? {}, closedSignal(reply.raw))
  }

  @Endpoint(API.getContainer, 'A container by id, name, or the beginning of its id', [
    'container_not_found',
    'container_ambiguous',
  ])
  async get(
    @Param('id', { schema: API.getContainer.param }) id: string,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<ContainerView> {
    return this.containers.get(id, closedSignal(reply.raw))
  }

  @Endpoint(API.waitContainer, 'Answers when the container has exited, and no start of it is under way', [
    'container_not_found',
    'cancelled',
    'node_unavailable',
  ])
  async wait(
    @Param('id', { schema: API.waitContainer.param }) id: string,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<WaitResult> {
    return this.containers.wait(id, closedSignal(reply.raw))
  }

  @Endpoint(API.containerLogs, 'The container’s output', ['container_not_found', 'node_unavailable'])
  @ApiResponse({
    status: 200,
    content: { 'application/vnd.docker.multiplexed-stream': {}, 'application/octet-stream': {} },
  })
  async logs(
    @Param('id', { schema: API.containerLogs.param }) id: string,
    @Query({ schema: API.containerLogs.query }) query: LogsQuery,
    @Req() request: FastifyRequest,
    @Res() reply: FastifyReply,
  ): Promise<void> {
    const gone = closedSignal(reply.raw)
    await this.containers.logs(id, query, gone, async (answer) => {
      reply.hijack()
      // The node holds a paused reader's output back, up to a bound of its own.
      letClientPause(request.raw)
      reply.raw.writeHead(200, {
        'content-type': answer.headers['content-type'] ?? 'application/octet-stream',
        'cache-control': 'no-store',
      })
      reply.raw.flushHeaders()
      // If the client leaves, the stream ends. If the node dies, the connection is cut, so that the
      // client sees an error and not an end.
      await pipeline(answer, reply.raw, { signal: gone }).catch(() => reply.raw.destroy())
    })
  }

  @Endpoint(API.stopContainer, 'Asks it to end, then ends it; a start that has no process yet is cancelled', [
    'container_not_found',
    'container_not_running',
    'node_unavailable',
  ])
  async stop(
    @Param('id', { schema: API.stopContainer.param }) id: string,
    @Body({ schema: API.stopContainer.body }) body: z.infer<typeof API.stopContainer.body>,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<void> {
    await this.containers.stop(id, body ?? {}, closedSignal(reply.raw))
  }

  @Endpoint(API.killContainer, 'Sends it a signal', [
    'container_not_found',
    'container_not_running',
    'node_unavailable',
  ])
  async kill(
    @Param('id', { schema: API.killContainer.param }) id: string,
    @Body({ schema: API.killContainer.body }) body: z.infer<typeof API.killContainer.body>,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<void> {
    await this.containers.kill(id, body ?? {}, closedSignal(reply.raw))
  }

  @Endpoint(API.removeContainer, 'Removes it; with ?force also while it runs', [
    'container_not_found',
    'container_running',
    'in_use',
    'driver_unavailable',
    'node_unavailable',
  ])
  async remove(
    @Param('id', { schema: API.removeContainer.param }) id: string,
    @Query({ schema: API.removeContainer.query }) { force }: z.infer<typeof API.removeContainer.query>,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<void> {
    await this.containers.remove(id, force, closedSignal(reply.raw))
  }
}
