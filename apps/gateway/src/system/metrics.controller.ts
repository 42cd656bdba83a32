import { Controller, Get, Inject, Res } from '@nestjs/common'
import { ApiExcludeController } from '@nestjs/swagger'
import type { ServiceMetrics } from '@strata/platform'
import type { FastifyReply } from 'fastify'
import { METRICS } from '../config.js'

/**
 * `GET /metrics`, where Prometheus looks for it. The public listener asks for the token, as it does
 * for all that an administrator does; the health listener has the same page for those inside.
 */
@ApiExcludeController()
@Controller()
export class MetricsController {
  constructor(@Inject(METRICS) private readonly metrics: ServiceMetrics) {}

  @Get('metrics')
  async scrape(@Res() reply: FastifyReply): Promise<void> {
    const { contentType, text } = await this.metrics.scrape()
    await reply.header('content-type', contentType).send(text)
  }
}
