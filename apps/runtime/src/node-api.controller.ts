import { pipeline } from 'node:stream/promises'
import { Readable } from 'node:stream'
import { Body, Controller, Param, Query, Res } from '@nestjs/common'
import { NODE_API, type ImageRef, type ListContainers, type LogsQuery, type NodeApiAnswer } from '@strata/api'
import type { Digest } from '@strata/oci'
import { closedSignal, LargeJson, letClientPause, Serves } from '@strata/platform'
import type { FastifyReply } from 'fastify'
import type { z } from 'zod'
import { endReason } from './container-view.js'
import { bare, framed } from './log-frames.js'
import { RuntimeNode } from './runtime-node.js'

/** As long as a signal's timer can wait: for ever, in practice. */
const FOREVER_SECONDS = 2_000_000

/** The node API, for gateways only: `NODE_API` says what each route takes and answers. */
@Controller()
export class NodeApiController {
  constructor(private readonly node: RuntimeNode) {}

  @Serves(NODE_API.listContainers)
  async list(
    @Query({ schema: NODE_API.listContainers.query }) query: ListContainers,
  ): Promise<NodeApiAnswer<'listContainers'>> {
    const { items, ...rest } = await this.node.list(query)
    return { containers: [...items], ...rest }
  }

  @Serves(NODE_API.pruneContainers)
  async prune(
    @Body({ schema: NODE_API.pruneContainers.body }) { dryRun }: z.infer<typeof NODE_API.pruneContainers.body>,
  ): Promise<NodeApiAnswer<'pruneContainers'>> {
    return { containers: await this.node.prune(dryRun) }
  }

  @Serves(NODE_API.getContainer)
  get(@Param('id', { schema: NODE_API.getContainer.param }) container: string): NodeApiAnswer<'getContainer'> {
    return this.node.view(this.node.containers.get(container))
  }

  @Serves(NODE_API.launchFailure)
  failure(@Param('id', { schema: NODE_API.launchFailure.param }) container: string): NodeApiAnswer<'launchFailure'> {
    return this.node.launchFailure(container)
  }

  @Serves(NODE_API.waitContainer)
  async wait(
    @Param('id', { schema: NODE_API.waitContainer.param }) container: string,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<NodeApiAnswer<'waitContainer'>> {
    const exit = await this.node.requests.wait(container, closedSignal(reply.raw))
    return { exitCode: exit.code, ...endReason(exit) }
  }

  @Serves(NODE_API.containerLogs)
  async logs(
    @Param('id', { schema: NODE_API.containerLogs.param }) container: string,
    @Query({ schema: NODE_API.containerLogs.query }) query: LogsQuery,
    @Res() reply: FastifyReply,
  ): Promise<void> {
    this.node.containers.get(container)
    const gone = closedSignal(reply.raw)
    const send = (): Promise<void> => this.#sendLog(container, query, reply, gone)
    await (query.follow || query.attach ? this.node.requests.behindStarts(container, gone, send) : send())
  }

  async #sendLog(container: string, query: LogsQuery, reply: FastifyReply, gone: AbortSignal): Promise<void> {
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

  @Serves(NODE_API.stopContainer)
  async stop(
    @Param('id', { schema: NODE_API.stopContainer.param }) container: string,
    @Body({ schema: NODE_API.stopContainer.body }) { timeout }: z.infer<typeof NODE_API.stopContainer.body>,
  ): Promise<void> {
    const options = timeout === undefined ? {} : { timeoutSeconds: timeout < 0 ? FOREVER_SECONDS : timeout }
    await this.node.stop(container, options)
  }

  @Serves(NODE_API.killContainer)
  async kill(
    @Param('id', { schema: NODE_API.killContainer.param }) container: string,
    @Body({ schema: NODE_API.killContainer.body }) { signal }: z.infer<typeof NODE_API.killContainer.body>,
  ): Promise<void> {
    await this.node.containers.kill(container, signal)
  }

  @Serves(NODE_API.removeContainer)
  async remove(
    @Param('id', { schema: NODE_API.removeContainer.param }) container: string,
    @Query({ schema: NODE_API.removeContainer.query }) { force }: z.infer<typeof NODE_API.removeContainer.query>,
  ): Promise<void> {
    await this.node.remove(container, { force })
  }

  @Serves(NODE_API.usage)
  usage(): Promise<NodeApiAnswer<'usage'>> {
    return this.node.usage()
  }

  @Serves(NODE_API.mountImage)
  @LargeJson()
  async mount(@Body({ schema: NODE_API.mountImage.body }) image: ImageRef): Promise<NodeApiAnswer<'mountImage'>> {
    return { id: image.id, path: await this.node.mounts.mount(image) }
  }

  @Serves(NODE_API.umountImage)
  async umount(
    @Param('id', { schema: NODE_API.umountImage.param }) image: Digest,
  ): Promise<NodeApiAnswer<'umountImage'>> {
    return { removed: await this.node.mounts.umount(image) }
  }
}
