import { Controller, Res } from '@nestjs/common'
import { ApiResponse, ApiTags } from '@nestjs/swagger'
import { API, type InfoView, type VersionView } from '@strata/api'
import { closedSignal, Open, Readiness, readyAnswer, type ReadyAnswer } from '@strata/platform'
import type { FastifyReply } from 'fastify'
import { Endpoint } from '../endpoint.js'
import { SystemService } from './system.service.js'

@ApiTags('system')
@Controller()
export class SystemController {
  constructor(
    private readonly system: SystemService,
    private readonly readiness: Readiness,
  ) {}

  @Endpoint(API.version, 'Versions')
  version(): VersionView {
    return this.system.version()
  }

  @Endpoint(API.info, 'What is here, and what each node can do')
  async info(@Res({ passthrough: true }) reply: FastifyReply): Promise<InfoView> {
    return this.system.info(closedSignal(reply.raw))
  }

  @Endpoint(API.live, 'The process answers')
  @Open()
  live(): { status: string } {
    return { status: 'live' }
  }

  @Endpoint(
    API.ready,
    'Requests can be served: Redis and the store answer, and a node is there; else 503 with the reasons',
  )
  @Open()
  @ApiResponse({ status: 503, description: 'not ready, and why' })
  async ready(@Res({ passthrough: true }) reply: FastifyReply): Promise<ReadyAnswer['body']> {
    const { status, body } = readyAnswer(await this.readiness.notReady())
    void reply.status(status)
    return body
  }
}
