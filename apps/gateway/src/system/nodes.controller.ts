import { Controller, Param, Query, Res } from '@nestjs/common'
import { ApiTags } from '@nestjs/swagger'
import { API, type NodeList } from '@strata/api'
import { closedSignal } from '@strata/platform'
import type { FastifyReply } from 'fastify'
import type { z } from 'zod'
import { Endpoint } from '../endpoint.js'
import { NodesService } from './nodes.service.js'

@ApiTags('nodes')
@Controller()
export class NodesController {
  constructor(private readonly nodes: NodesService) {}

  @Endpoint(API.listNodes, 'Nodes in pages: every one that is known, also one that is gone', ['queue_unavailable'])
  async list(
    @Query({ schema: API.listNodes.query }) { limit, after }: z.infer<typeof API.listNodes.query>,
  ): Promise<NodeList> {
    return this.nodes.list(limit, after)
  }

  @Endpoint(
    API.removeNode,
    'Forgets a node that is gone for good, and its containers: their names and images are free. It is refused when it comes back, unless it is told to rejoin',
    ['node_not_found', 'node_in_use', 'queue_unavailable', 'store_unavailable'],
  )
  async remove(
    @Param('id', { schema: API.removeNode.param }) id: string,
    @Query({ schema: API.removeNode.query }) { force }: z.infer<typeof API.removeNode.query>,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<void> {
    await this.nodes.remove(id, force, closedSignal(reply.raw))
  }
}
