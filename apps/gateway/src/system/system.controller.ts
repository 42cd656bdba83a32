import { Controller, Get, Res } from '@nestjs/common'
import { ApiOperation, ApiResponse, ApiTags } from '@nestjs/swagger'
import { API_VERSION, infoSchema, versionSchema, type InfoView, type VersionView } from '@strata/api'
import { Images } from '@strata/images'
import { closedSignal, Open, Readiness, readyAnswer, type ReadyAnswer } from '@strata/platform'
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
    private readonly readiness: Readiness,
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
  async info(@Res({ passthrough: true }) reply: FastifyReply): Promise<InfoView> {
    const [images, containers, nodes] = await Promise.all([
      this.images.list(),
      this.containers.list(closedSignal(reply.raw)),
      this.nodes.list(),
    ])
    const count = (state: string): number => containers.filter((container) => container.state === state).length
    return {
      version: VERSION,
      images: images.length,
      containers: {
        running: count('running'),
        exited: count('exited'),
        created: count('created'),
        unknown: count('unknown'),
      },
      nodes: nodes.map(({ id, driver, driverReason, runtime, kernel, warnings }) => ({
        id,
        driver,
        driverReason,
        runtime,
        kernel,
        warnings,
      })),
    }
  }

  @Get('health/live')
  @Open()
  @ApiOperation({ summary: 'The process answers' })
  live(): { status: string } {
    return { status: 'live' }
  }

  @Get('health/ready')
  @Open()
  @ApiOperation({
    summary: 'Requests can be served: Redis and the store answer, and a node is there; else 503 with the reasons',
  })
  async ready(@Res({ passthrough: true }) reply: FastifyReply): Promise<ReadyAnswer['body']> {
    const { status, body } = readyAnswer(await this.readiness.notReady())
    void reply.status(status)
    return body
  }
}
