import type { IncomingMessage, ServerResponse } from 'node:http'
import { Body, Controller, Delete, Get, Injectable, Module, Post, Req } from '@nestjs/common'
import { StrataError } from '@strata/base'
import { z } from 'zod'
import type { FastifyRequest } from 'fastify'
import { Open } from '../http/authentication.js'
import { problemForm } from '../http/errors/error-form.js'
import { LargeJson, ReadsBody } from '../http/http-app.js'
import type { Tree, TreeServer } from '../http/tree.js'
import { nameRoute } from '../metrics/request-metrics.js'

const body = z.strictObject({ n: z.number() })
const options = z.object({ dryRun: z.boolean() }).nullish()

@Controller()
export class Probe {
  /** What ran: the requests that got in. */
  static readonly calls: string[] = []

  @Get('open')
  @Open()
  open(): { open: true } {
    return { open: true }
  }
  @Get('items/:id')
  item(): { item: true } {
    Probe.calls.push('get')
    return { item: true }
  }
  @Delete('items/:id')
  remove(): void {
    Probe.calls.push('delete')
  }
  @Get('gone')
  gone(): never {
    throw new StrataError('image_not_found', 'no such image: x')
  }
  @Get('broken')
  broken(): never {
    throw new Error('the database password is 1234')
  }
  @Post('echo')
  echo(@Body({ schema: body }) value: z.infer<typeof body>): z.infer<typeof body> {
    Probe.calls.push('echo')
    return value
  }
  @Post('large')
  @LargeJson()
  large(@Body({ schema: z.object({ n: z.unknown() }) }) { n }: { n: unknown }): { length: number } {
    return { length: JSON.stringify(n).length }
  }
  /** As if it did something that its options can forbid. */
  @Post('optional')
  optional(@Body({ schema: options }) body: z.infer<typeof options>): { dryRun: boolean } {
    Probe.calls.push('optional')
    return { dryRun: body?.dryRun === true }
  }
  @Post('raw')
  @ReadsBody()
  async raw(@Req() { raw }: FastifyRequest): Promise<{ length: number }> {
    let length = 0
    for await (const piece of raw) length += (piece as Buffer).length
    return { length }
  }
}
/** A tree of its own: it reads the body and answers with its length, but for two paths. */
@Injectable()
class ProbeTree implements TreeServer {
  async serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    Probe.calls.push(`tree ${request.method} ${request.url}`)
    if (request.url === '/tree/gone') throw new StrataError('image_not_found', 'no such image: x')
    if (request.url === '/tree/broken') throw new Error('the database password is 1234')
    nameRoute(request, '/tree/:id')
    let length = 0
    for await (const piece of request) length += (piece as Buffer).length
    response.end(JSON.stringify({ length }))
  }
}

@Module({ providers: [ProbeTree] })
export class Probed {}

export const TREES: readonly Tree[] = [{ prefix: '/tree', form: problemForm, server: ProbeTree }]
