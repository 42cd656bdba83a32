import { Controller, Get, Res } from '@nestjs/common'
import { ApiOperation, ApiResponse, ApiTags } from '@nestjs/swagger'
import { API_VERSION, infoSchema, versionSchema, type InfoView, type VersionView } from '@strata/api'
import { Images } from '@strata/images'
import { asStrataError } from '@strata/oci'
import { NodeDirectory } from '@strata/queue'
import type { FastifyReply } from 'fastify'
import { ContainerDirectory } from '../containers/container-directory.js'
import { VERSION } from '../version.js'

@ApiTags('system')
@Controller('v1')
export class SystemController {
  constructor(
    private readonly images: Images,
    private readonly containers: ContainerDirectory,
    private readonly nodes: NodeDirectory,
  ) {}

  @Get('version')
  @ApiOperation({ summary: 'Versions' })
  @ApiResponse({ status: 200, standardSchema: versionSchema })
  version(): VersionView {
    return { version: VERSION, api: API_VERSION, node: process.version }
  }

  @Get('info')
  @ApiOperation({ summary: 'What is here, and what each node can do' })
  @ApiResponse({ status: 200, standardSchema: infoSchema })
  async info(): Promise<InfoView> {
    const [images, containers, nodes] = await Promise.all([this.images.list(), this.containers.list(), this.nodes.list()])
    const count = (state: string): number => containers.filter((container) => container.state === state).length
    return {
      version: VERSION,
      images: images.length,
      containers: { running: count('running'), exited: count('exited'), created: count('created') },
      nodes: nodes.map(({ id, driver, driverReason, runtime, kernel, warnings }) => ({ id, driver, driverReason, runtime, kernel, warnings })),
    }
  }

  @Get('health/live')
  @ApiOperation({ summary: 'The process answers' })
  live(): { status: string } {
    return { status: 'live' }
  }

  @Get('health/ready')
  @ApiOperation({ summary: 'Requests can be served: Redis answers and a node is there; else 503 with the reason' })
  async ready(@Res({ passthrough: true }) reply: FastifyReply): Promise<{ status: string; reason?: string }> {
    const reason = await this.nodes.list().then(
      (nodes) => (nodes.length > 0 ? undefined : 'no node is running'),
      (error: unknown) => asStrataError(error).message,
    )
    if (reason === undefined) return { status: 'ready' }
    void reply.status(503)
    return { status: 'not ready', reason }
  }
}
