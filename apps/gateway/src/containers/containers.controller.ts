import { randomUUID } from 'node:crypto'
import { pipeline } from 'node:stream/promises'
import { Body, Controller, Delete, Get, HttpCode, Param, Post, Query, Req, Res } from '@nestjs/common'
import { ApiBody, ApiOperation, ApiResponse, ApiTags } from '@nestjs/swagger'
import {
  containerListSchema,
  containerSchema,
  createContainerSchema,
  killSchema,
  launchQuery,
  listContainersQuery,
  logsQuery,
  prunedContainersSchema,
  pruneContainersSchema,
  removeContainerQuery,
  stopSchema,
  waitResultSchema,
  type ContainerView,
  type CreateContainer,
  type LogsQuery,
  type PruneContainers,
  type PrunedContainers,
  type WaitResult,
} from '@strata/api'
import { closedSignal, LargeJson, letClientPause } from '@strata/platform'
import { NodeDirectory } from '@strata/queue'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { z } from 'zod'
import { answersProblems } from '../problems.js'
import { ContainerDirectory } from './container-directory.js'
import { LaunchService } from './launch.service.js'
import { NodeDoors, type Ask } from './node-doors.js'

const ref = z.string().min(1).max(128)

@ApiTags('containers')
@Controller('v1/containers')
export class ContainersController {
  constructor(
    private readonly launches: LaunchService,
    private readonly containers: ContainerDirectory,
    private readonly nodes: NodeDirectory,
    private readonly doors: NodeDoors,
  ) {}

  @Post()
  @LargeJson()
  @ApiOperation({ summary: 'Launches a container from an image' })
  @ApiResponse({ status: 201, standardSchema: containerSchema })
  @ApiResponse({ status: 202, description: 'with ?wait=false; Location is the job' })
  @answersProblems(
    'image_not_found',
    'nothing_to_run',
    'container_exists',
    'launch_failed',
    'command_not_found',
    'command_not_executable',
    'node_unavailable',
    'queue_unavailable',
    'job_exists',
  )
  async launch(
    @Body({ schema: createContainerSchema }) body: CreateContainer,
    @Query({ schema: launchQuery }) query: z.infer<typeof launchQuery>,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<ContainerView | { id: string }> {
    const job = query.job ?? randomUUID()
    const id = await this.launches.launch(body, job)
    void reply.header('location', query.wait ? `/v1/containers/${id}` : `/v1/jobs/${job}`)
    if (query.wait) return this.launches.launched(body.image, id, job, closedSignal(reply.raw))
    void reply.status(202)
    return { id }
  }

  @Get()
  @ApiOperation({ summary: 'The containers that run, or may run on a node that is gone; with ?all every one' })
  @ApiResponse({ status: 200, standardSchema: containerListSchema })
  async list(
    @Query({ schema: listContainersQuery }) query: z.infer<typeof listContainersQuery>,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<{ containers: ContainerView[] }> {
    return {
      containers: (await this.containers.list(closedSignal(reply.raw))).filter(
        ({ state }) => query.all || state === 'running' || state === 'unknown',
      ),
    }
  }

  @Post('prune')
  @HttpCode(200)
  @ApiOperation({
    summary:
      'Removes the containers that have exited. Each node decides by itself: one that is being launched, runs, or is still waited for stays',
  })
  @ApiBody({ standardSchema: pruneContainersSchema, required: false } as object)
  @ApiResponse({ status: 200, standardSchema: prunedContainersSchema })
  @answersProblems('queue_unavailable')
  async prune(
    @Body({ schema: pruneContainersSchema.nullish() }) body: PruneContainers | null | undefined,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<PrunedContainers> {
    return this.containers.prune(pruneContainersSchema.parse(body ?? {}), closedSignal(reply.raw))
  }

  @Get(':id')
  @ApiOperation({ summary: 'A container by id, name, or the beginning of its id' })
  @ApiResponse({ status: 200, standardSchema: containerSchema })
  @answersProblems('container_not_found', 'container_ambiguous')
  async get(
    @Param('id', { schema: ref }) id: string,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<ContainerView> {
    return this.containers.get(id, closedSignal(reply.raw))
  }

  @Post(':id/wait')
  @HttpCode(200)
  @ApiOperation({ summary: 'Answers when the container has exited' })
  @ApiResponse({ status: 200, standardSchema: waitResultSchema })
  @answersProblems('container_not_found', 'node_unavailable')
  async wait(
    @Param('id', { schema: ref }) id: string,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<WaitResult> {
    return this.#ask<WaitResult>(id, '/wait', { method: 'POST', as: 'follow', gone: closedSignal(reply.raw) })
  }

  @Get(':id/logs')
  @ApiOperation({ summary: 'The container’s output' })
  @ApiResponse({
    status: 200,
    content: { 'application/vnd.docker.multiplexed-stream': {}, 'application/octet-stream': {} },
  })
  @answersProblems('container_not_found', 'node_unavailable')
  async logs(
    @Param('id', { schema: ref }) id: string,
    @Query({ schema: logsQuery }) _checked: LogsQuery,
    @Req() request: FastifyRequest,
    @Res() reply: FastifyReply,
  ): Promise<void> {
    const { node, container } = await this.#locate(id)
    const query = request.url.includes('?') ? request.url.slice(request.url.indexOf('?')) : ''
    const gone = closedSignal(reply.raw)
    await this.doors.stream(
      node,
      { method: 'GET', path: `/containers/${container}/logs${query}`, as: 'follow', gone },
      async (answer) => {
        reply.hijack()
        // The node holds a paused reader's output back, up to a bound of its own.
        letClientPause(request.raw)
        reply.raw.writeHead(200, {
          'content-type': answer.headers['content-type'] ?? 'application/octet-stream',
          'cache-control': 'no-store',
        })
        reply.raw.flushHeaders()
        // Who leaves early ends the stream; a node that died cuts it, so that the client sees an
        // error and not an end.
        await pipeline(answer, reply.raw, { signal: gone }).catch(() => reply.raw.destroy())
      },
    )
  }

  @Post(':id/stop')
  @HttpCode(204)
  @ApiOperation({ summary: 'Asks it to end, then ends it' })
  @answersProblems('container_not_found', 'node_unavailable')
  async stop(
    @Param('id', { schema: ref }) id: string,
    @Body({ schema: stopSchema.optional() }) body: z.infer<typeof stopSchema> | undefined,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<void> {
    await this.#ask(id, '/stop', { method: 'POST', body: body ?? {}, as: 'stop', gone: closedSignal(reply.raw) })
  }

  @Post(':id/kill')
  @HttpCode(204)
  @ApiOperation({ summary: 'Sends it a signal' })
  @answersProblems('container_not_found', 'container_not_running', 'node_unavailable')
  async kill(
    @Param('id', { schema: ref }) id: string,
    @Body({ schema: killSchema.optional() }) body: z.infer<typeof killSchema> | undefined,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<void> {
    await this.#ask(id, '/kill', { method: 'POST', body: body ?? {}, as: 'command', gone: closedSignal(reply.raw) })
  }

  @Delete(':id')
  @HttpCode(204)
  @ApiOperation({ summary: 'Removes it; with ?force also while it runs' })
  @answersProblems('container_not_found', 'container_running', 'node_unavailable')
  async remove(
    @Param('id', { schema: ref }) id: string,
    @Query({ schema: removeContainerQuery }) query: z.infer<typeof removeContainerQuery>,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<void> {
    await this.#ask(id, `?force=${query.force}`, { method: 'DELETE', as: 'command', gone: closedSignal(reply.raw) })
  }

  async #locate(id: string) {
    const container = await this.containers.find(id)
    return { container: container.id, node: await this.nodes.get(container.node) }
  }

  async #ask<T>(id: string, path: string, ask: Omit<Ask, 'path'>): Promise<T> {
    const { node, container } = await this.#locate(id)
    return this.doors.json<T>(node, { ...ask, path: `/containers/${container}${path}` })
  }
}
