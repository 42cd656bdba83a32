import { Controller, Param, Query, Req, Res } from '@nestjs/common'
import { ApiResponse, ApiTags } from '@nestjs/swagger'
import { API, type DiffView, type FileListView, type HistoryView } from '@strata/api'
import type { ErrorCode } from '@strata/base'
import { closedSignal, letClientPause } from '@strata/platform'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { z } from 'zod'
import { Endpoint } from '../endpoint.js'
import { sendRanged } from '../ranged-body.js'
import { FilesService } from './files.service.js'
import { bytesOfParameter } from './path-parameter.js'

const IMAGE_ERRORS: readonly ErrorCode[] = ['image_not_found', 'image_ambiguous', 'limit_exceeded', 'corrupt']
const PLACE_ERRORS: readonly ErrorCode[] = [...IMAGE_ERRORS, 'not_found', 'bad_request']
const BYTES = { schema: { type: 'string', format: 'binary' } } as const

@ApiTags('images')
@Controller()
export class FilesController {
  constructor(private readonly files: FilesService) {}

  @Endpoint(API.listFiles, 'What a folder of the image, or of one of its layers, holds', PLACE_ERRORS)
  async list(
    @Param('ref', { schema: API.listFiles.param }) image: string,
    @Query({ schema: API.listFiles.query }) query: z.infer<typeof API.listFiles.query>,
    @Req() { raw }: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<FileListView> {
    const path = bytesOfParameter(raw.url ?? '', 'path')
    return this.files.list({ image, layer: query.layer, path }, query, closedSignal(reply.raw))
  }

  @Endpoint(API.readFile, 'The bytes of a file', PLACE_ERRORS)
  @ApiResponse({ status: 200, content: { 'application/octet-stream': BYTES } })
  @ApiResponse({ status: 206, description: 'the part that Range asks for' })
  @ApiResponse({ status: 416, description: 'no such part' })
  async file(
    @Param('ref', { schema: API.readFile.param }) image: string,
    @Query({ schema: API.readFile.query }) { layer }: z.infer<typeof API.readFile.query>,
    @Req() { raw }: FastifyRequest,
    @Res() reply: FastifyReply,
  ): Promise<void> {
    const path = bytesOfParameter(raw.url ?? '', 'path')
    await this.files.file({ image, layer, path }, closedSignal(reply.raw), async (body) => {
      // `strata cat` may write into a pager that stops reading. Meanwhile this request holds one
      // blob open.
      letClientPause(raw)
      await sendRanged(raw, reply.raw, body)
    })
  }

  @Endpoint(
    API.diffImages,
    'What of the files changes from this image to another, or what one layer changed',
    PLACE_ERRORS,
  )
  async diff(
    @Param('ref', { schema: API.diffImages.param }) image: string,
    @Query({ schema: API.diffImages.query }) query: z.infer<typeof API.diffImages.query>,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<DiffView> {
    return this.files.diff(image, query, closedSignal(reply.raw))
  }

  @Endpoint(API.imageHistory, 'The steps that made the image, and what each layer holds', IMAGE_ERRORS)
  async history(
    @Param('ref', { schema: API.imageHistory.param }) image: string,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<HistoryView> {
    return this.files.history(image, closedSignal(reply.raw))
  }

  @Endpoint(
    API.exportImage,
    'The image’s root file system as a tar: the same bytes for the same layers always',
    IMAGE_ERRORS,
  )
  @ApiResponse({ status: 200, content: { 'application/x-tar': BYTES } })
  @ApiResponse({ status: 206, description: 'the part that Range asks for' })
  @ApiResponse({ status: 416, description: 'no such part' })
  async export(
    @Param('ref', { schema: API.exportImage.param }) image: string,
    @Req() { raw }: FastifyRequest,
    @Res() reply: FastifyReply,
  ): Promise<void> {
    await this.files.export(image, closedSignal(reply.raw), (body) => sendRanged(raw, reply.raw, body))
  }
}
