import type { Socket } from 'node:net'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { Controller, Get, Post, Req, Res } from '@nestjs/common'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { takeOver } from '../listener/upgrade.js'

/** A route that takes connections over, and two that do not. */
@Controller()
export class Attach {
  /** Connections that were handed over, as their owner has them. */
  static readonly taken: Socket[] = []

  @Post('attach')
  attach(@Req() request: FastifyRequest, @Res() reply: FastifyReply): void {
    const socket = takeOver(request.raw, reply.raw, { 'content-type': 'application/vnd.docker.raw-stream' })
    reply.hijack()
    Attach.taken.push(socket)
    socket.on('data', (piece: Buffer) => socket.write(piece.toString('latin1').toUpperCase(), 'latin1'))
    socket.on('end', () => socket.end('the end'))
  }

  @Get('large')
  async large(@Res() reply: FastifyReply): Promise<void> {
    reply.hijack()
    await pipeline(Readable.from(Array.from({ length: 64 }, () => Buffer.alloc(256 * 1024, 'x'))), reply.raw)
  }

  @Get('plain')
  plain(): string {
    return 'an answer'
  }
}
