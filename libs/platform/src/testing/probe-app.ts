import { Body, Controller, Get, Module, Post } from '@nestjs/common'
import { StrataError } from '@strata/oci'
import { z } from 'zod'

const body = z.strictObject({ n: z.number() })

@Controller()
export class Probe {
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
    return value
  }
}
@Module({})
export class Probed {}
