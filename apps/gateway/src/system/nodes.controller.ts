import { randomUUID } from 'node:crypto'
import { Controller, Delete, Get, HttpCode, Param, Query, Res } from '@nestjs/common'
import { ApiOperation, ApiResponse, ApiTags } from '@nestjs/swagger'
import { nodeListSchema, removeNodeQuery, type NodeView } from '@strata/api'
import { StrataError } from '@strata/base'
import { closedSignal, nodeId } from '@strata/platform'
import { NodeDirectory, Producer, QUEUES, type NodeStatus } from '@strata/queue'
import type { FastifyReply } from 'fastify'
import type { z } from 'zod'
import { ContainerDirectory } from '../containers/container-directory.js'
import { answersProblems } from '../problems.js'

/**
 * The node's last jobs are ended first, which takes as long as the locks of those that were under
 * way.
 */
const REMOVAL_MS = 90_000

@ApiTags('nodes')
@Controller('v1/nodes')
export class NodesController {
  constructor(
    private readonly nodes: NodeDirectory,
    private readonly containers: ContainerDirectory,
    private readonly producer: Producer,
  ) {}

  @Get()
  @ApiOperation({ summary: 'Every node that is known, also one that is gone' })
  @ApiResponse({ status: 200, standardSchema: nodeListSchema })
  @answersProblems('queue_unavailable')
  async list(): Promise<{ nodes: NodeView[] }> {
    const [statuses, containers] = await Promise.all([this.nodes.statuses(), this.containers.published()])
    return {
      nodes: statuses.map((status) => viewOf(status, containers.filter(({ node }) => node === status.id).length)),
    }
  }

  @Delete(':id')
  @HttpCode(204)
  @ApiOperation({
    summary:
      'Forgets a node that is gone for good, and its containers: their names and images are free. It is refused when it comes back, unless it is told to rejoin',
  })
  @answersProblems('node_not_found', 'node_in_use', 'queue_unavailable', 'store_unavailable')
  async remove(
    @Param('id', { schema: nodeId }) id: string,
    @Query({ schema: removeNodeQuery }) { force }: z.infer<typeof removeNodeQuery>,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<void> {
    const by = randomUUID()
    const job = {
      name: 'forget-node',
      queue: QUEUES.storage,
      id: `forget-${by}`,
      data: { node: id, force, by },
    } as const
    const late = AbortSignal.timeout(REMOVAL_MS)
    await this.producer.add(job)
    try {
      await this.producer.result(job, AbortSignal.any([closedSignal(reply.raw), late]))
    } catch (error) {
      if (!late.aborted) throw error
      throw new StrataError(
        'queue_unavailable',
        `no storage service has removed the node ${id} yet: see that one runs (strata storage), then look at the nodes again`,
      )
    }
  }
}

function viewOf({ id, state, host, runtime, extractor, last }: NodeStatus, containers: number): NodeView {
  const at = state === 'ready' ? undefined : state === 'no_extractor' ? extractor.seenAt : runtime.seenAt
  return {
    id,
    state,
    host,
    ...(at === undefined ? {} : { since: new Date(at).toISOString() }),
    ...(last ? { driver: last.driver, runtime: last.runtime, kernel: last.kernel } : {}),
    containers,
  }
}
