import { Body, Controller, Delete, Get, Module, Post } from '@nestjs/common'
import { StrataError } from '@strata/oci'
import { z } from 'zod'
import { Open } from '../authentication.js'

const body = z.strictObject({ n: z.number() })

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
}
@Module({})
export class Probed {}
