import { pipeline } from 'node:stream/promises'
import { Readable } from 'node:stream'
import { Body, Controller, Delete, Get, HttpCode, Param, Post, Query, Res } from '@nestjs/common'
import {
  digest,
  killSchema,
  logsQuery,
  pruneContainersSchema,
  removeContainerQuery,
  stopSchema,
  type ContainerView,
  type LogsQuery,
  type NodeUsage,
  type PrunedContainer,
  type WaitResult,
} from '@strata/api'
import type { ToldError } from '@strata/base'
import type { Digest } from '@strata/oci'
import { closedSignal, LargeJson, letClientPause } from '@strata/platform'
import { CONTAINER_ID, imageRefSchema, type ImageRef } from '@strata/queue'
import type { FastifyReply } from 'fastify'
import { z } from 'zod'
import { endReason } from './container-view.js'
import { bare, framed } from './log-frames.js'
import { RuntimeNode } from './runtime-node.js'

const id = z.string().regex(CONTAINER_ID)
/** As long as a signal's timer can wait: for ever, in practice. */
const FOREVER_SECONDS = 2_000_000

/** The node's own door, for gateways only. */
@Controller()
export class DoorController {
  constructor(private readonly node: RuntimeNode) {}

  @Get('containers')
  list(): ContainerView[] {
    return this.node.containers.list().map((record) => this.node.view(record))
  }

  @Post('containers/prune')
  @HttpCode(200)
  async prune(
    @Body({ schema: pruneContainersSchema }) { dryRun }: z.infer<typeof pruneContainersSchema>,
  ): Promise<{ containers: PrunedContainer[] }> {
    return { containers: await this.node.prune(dryRun) }
  }

  @Get('containers/:id')
  get(@Param('id', { schema: id }) container: string): ContainerView {
    return this.node.view(this.node.containers.get(container))
  }

  @Get('containers/:id/failure')
  failure(@Param('id', { schema: id }) container: string): ToldError {
    return this.node.launchFailure(container)
  }

  @Post('containers/:id/wait')
  @HttpCode(200)
  async wait(
    @Param('id', { schema: id }) container: string,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<WaitResult> {
    const exit = await this.node.containers.wait(container, closedSignal(reply.raw))
    return { exitCode: exit.code, ...endReason(exit) }
  }

  @Get('containers/:id/logs')
  async logs(
    @Param('id', { schema: id }) container: string,
    @Query({ schema: logsQuery }) query: LogsQuery,
    @Res() reply: FastifyReply,
  ): Promise<void> {
    this.node.containers.get(container)
    const gone = closedSignal(reply.raw)
    const stream = query.stream === undefined ? undefined : query.stream === 'stdout' ? 1 : 2
    const chunks = this.node.containers.logs(container, {
      follow: query.follow || query.attach,
      foreground: query.attach,
      tail: query.tail === 'all' ? undefined : query.tail,
      stream,
      signal: gone,
    })
    reply.hijack()
    if (gone.aborted) return
    letClientPause(reply.request.raw)
    reply.raw.writeHead(200, {
      'content-type': stream === undefined ? 'application/vnd.docker.multiplexed-stream' : 'application/octet-stream',
    })
    reply.raw.flushHeaders()
    // A reader that lags too far is cut off, so that it sees an error and not an end.
    await pipeline(Readable.from(stream === undefined ? framed(chunks) : bare(chunks)), reply.raw, {
      signal: gone,
    }).catch(() => reply.raw.destroy())
  }

  @Post('containers/:id/stop')
  @HttpCode(204)
  async stop(
    @Param('id', { schema: id }) container: string,
    @Body({ schema: stopSchema }) { timeout }: z.infer<typeof stopSchema>,
  ): Promise<void> {
    await this.node.containers.stop(
      container,
      timeout === undefined ? {} : { timeoutSeconds: timeout < 0 ? FOREVER_SECONDS : timeout },
    )
    await this.node.published()
  }

  @Post('containers/:id/kill')
  @HttpCode(204)
  async kill(
    @Param('id', { schema: id }) container: string,
    @Body({ schema: killSchema }) { signal }: z.infer<typeof killSchema>,
  ): Promise<void> {
    await this.node.containers.kill(container, signal)
  }

  @Delete('containers/:id')
  @HttpCode(204)
  async remove(
    @Param('id', { schema: id }) container: string,
    @Query({ schema: removeContainerQuery }) { force }: z.infer<typeof removeContainerQuery>,
  ): Promise<void> {
    await this.node.remove(container, { force })
  }

  @Get('usage')
  usage(): Promise<NodeUsage> {
    return this.node.usage()
  }

  @Post('mounts')
  @LargeJson()
  @HttpCode(200)
  async mount(@Body({ schema: imageRefSchema }) image: ImageRef): Promise<{ id: Digest; path: string }> {
    return { id: image.id, path: await this.node.mounts.mount(image) }
  }

  @Delete('mounts/:id')
  async umount(@Param('id', { schema: digest }) image: Digest): Promise<{ removed: boolean }> {
    return { removed: await this.node.mounts.umount(image) }
  }
}
