import { randomUUID } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import {
  Body,
  Controller,
  Delete,
  Get,
  HttpCode,
  Inject,
  Logger,
  Param,
  Post,
  Put,
  Query,
  Req,
  Res,
} from '@nestjs/common'
import { ApiBody, ApiOperation, ApiResponse, ApiTags } from '@nestjs/swagger'
import {
  imageListQuery,
  imageListSchema,
  imageQuery,
  imageSchema,
  loadQuery,
  loadResultSchema,
  mountResultSchema,
  removeImageQuery,
  removeImageResultSchema,
  tagSchema,
  type Descriptor,
  type ImageList,
  type ImageView,
  type LoadQuery,
  type MountResult,
  type RemoveImageResult,
} from '@strata/api'
import { Images } from '@strata/images'
import { bytesLeft } from '@strata/intake'
import { StrataError } from '@strata/base'
import { isDigest, parsePlatform } from '@strata/oci'
import { answerEarly, closedSignal, ReadsBody } from '@strata/platform'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { z } from 'zod'
import { ContainerDirectory } from '../containers/container-directory.js'
import { GATEWAY_CONFIG, type GatewayConfig } from '../config.js'
import { answersProblems } from '../problems.js'
import { openCallersFile } from './callers-file.js'
import { namesDescriptor, parseDescriptor } from './descriptor-body.js'
import { ImageMounts } from './image-mounts.js'
import { imageSummary, imageView } from './image-views.js'
import { importRecipe } from './import-recipe.js'
import { LoadService, type LoadRequest } from './load.service.js'

const ref = z.string().min(1).max(512)

@ApiTags('images')
@Controller('v1/images')
export class ImagesController {
  readonly #logger = new Logger('images')

  constructor(
    private readonly images: Images,
    private readonly loads: LoadService,
    private readonly mounts: ImageMounts,
    private readonly containers: ContainerDirectory,
    @Inject(GATEWAY_CONFIG) private readonly config: GatewayConfig,
  ) {}

  @Post()
  @ReadsBody()
  @ApiOperation({
    summary:
      'Loads the images of an archive: the body, docker’s or an OCI layout in a tar, plain, gzip, zstd, bzip2 or xz. With ?import makes one image of a root file system in a tar',
  })
  @ApiBody({ schema: { type: 'string', format: 'binary' } })
  @ApiResponse({ status: 201, standardSchema: loadResultSchema })
  @ApiResponse({ status: 202, description: 'with ?wait=false, once the body is in; Location is the job' })
  @answersProblems(
    'archive_invalid',
    'archive_truncated',
    'archive_changed',
    'descriptor_refused',
    'not_an_image',
    'digest_mismatch',
    'layer_missing',
    'layer_invalid',
    'limit_exceeded',
    'name_invalid',
    'unsupported',
    'upload_interrupted',
    'job_exists',
    'overloaded',
    'queue_unavailable',
    'storage_full',
  )
  async load(
    @Query({ schema: loadQuery }) query: LoadQuery,
    @Req() request: FastifyRequest,
    @Res() reply: FastifyReply,
  ): Promise<void> {
    reply.hijack()
    const { raw } = request
    const response = reply.raw
    // The intake may take the socket from Node, whose parser then does not know where the body
    // ended.
    response.shouldKeepAlive = false
    const gone = closedSignal(response)
    const job = query.job ?? randomUUID()
    try {
      const options = {
        job,
        prepare: query.prepare ?? this.config.STRATA_PREPARE,
        ...(importRecipe(query) ?? { name: query.name, platform: query.platform }),
      }
      if (namesDescriptor(raw)) await this.#loadFile(raw, parseDescriptor(request.body), options, gone)
      else await this.loads.receive({ body: raw }, { ...options, total: lengthOf(raw) })
      if (!query.wait) {
        response.writeHead(202, { location: `/v1/jobs/${job}`, 'content-length': 0 }).end()
        return
      }
      const result = JSON.stringify(await this.loads.result(job, gone))
      response
        .writeHead(201, {
          'content-type': 'application/json',
          'content-length': Buffer.byteLength(result),
          location: `/v1/jobs/${job}`,
        })
        .end(result)
    } catch (error) {
      if (!(error instanceof StrataError) || error.code === 'internal') this.#logger.error(error)
      await answerEarly(raw, response, error, bytesLeft(raw))
    }
  }

  async #loadFile(request: IncomingMessage, named: Descriptor, options: LoadRequest, gone: AbortSignal): Promise<void> {
    const file = openCallersFile(request, named)
    try {
      await this.loads.receive({ file, gone }, { ...options, total: file.size })
    } finally {
      file.close()
    }
  }

  @Put()
  @ReadsBody()
  @ApiOperation({ summary: 'As POST: for clients that upload files by PUT (curl -T)' })
  @ApiBody({ schema: { type: 'string', format: 'binary' } })
  @ApiResponse({ status: 201, standardSchema: loadResultSchema })
  async loadByPut(
    @Query({ schema: loadQuery }) query: LoadQuery,
    @Req() request: FastifyRequest,
    @Res() reply: FastifyReply,
  ): Promise<void> {
    return this.load(query, request, reply)
  }

  @Get()
  @ApiOperation({
    summary: 'Images in pages. Pages follow the digests; within a page, named images come first, then the newest',
  })
  @ApiResponse({ status: 200, standardSchema: imageListSchema })
  async list(@Query({ schema: imageListQuery }) { limit, after }: z.infer<typeof imageListQuery>): Promise<ImageList> {
    const { images, next } = await this.images.page(limit, after)
    return { images: images.map(imageSummary), ...(next === undefined ? {} : { next }) }
  }

  @Get(':ref')
  @ApiOperation({ summary: 'An image by name, digest or the beginning of its id' })
  @ApiResponse({ status: 200, standardSchema: imageSchema })
  @answersProblems('image_not_found', 'image_ambiguous', 'name_invalid', 'unsupported')
  async get(
    @Param('ref', { schema: ref }) name: string,
    @Query({ schema: imageQuery }) { platform }: z.infer<typeof imageQuery>,
  ): Promise<ImageView> {
    return imageView(await this.images.inspect(name, platform === undefined ? undefined : parsePlatform(platform)))
  }

  @Delete(':ref')
  @ApiOperation({ summary: 'Takes a name away; with the last one the image' })
  @ApiResponse({ status: 200, standardSchema: removeImageResultSchema })
  @answersProblems('image_not_found', 'image_ambiguous', 'image_has_tags', 'image_in_use', 'node_unavailable')
  async remove(
    @Param('ref', { schema: ref }) name: string,
    @Query({ schema: removeImageQuery }) query: z.infer<typeof removeImageQuery>,
  ): Promise<RemoveImageResult> {
    const { force } = query
    return this.images.remove({
      ref: name,
      force,
      inUse: async ({ id }) => (await this.containers.imagesInUse({ forced: force })).has(id),
    })
  }

  @Post(':ref/tag')
  @HttpCode(201)
  @ApiOperation({ summary: 'Gives the image one more name' })
  @ApiBody({ standardSchema: tagSchema } as object)
  @ApiResponse({ status: 201 })
  @answersProblems('image_not_found', 'image_ambiguous', 'name_invalid')
  async tag(
    @Param('ref', { schema: ref }) name: string,
    @Body({ schema: tagSchema }) body: z.infer<typeof tagSchema>,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<void> {
    await this.images.tag(name, body.name, closedSignal(reply.raw))
  }

  @Post(':ref/mount')
  @HttpCode(200)
  @ApiOperation({ summary: 'Mounts the image’s root read-only on a node' })
  @ApiResponse({ status: 200, standardSchema: mountResultSchema })
  @answersProblems('image_not_found', 'node_unavailable', 'layer_missing')
  async mount(
    @Param('ref', { schema: ref }) name: string,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<MountResult> {
    const gone = closedSignal(reply.raw)
    return this.images.reading(name, async () => this.mounts.mount(await this.images.details(name), gone))
  }

  @Delete(':ref/mount')
  @HttpCode(204)
  @ApiOperation({ summary: 'Takes that mount away' })
  @ApiResponse({ status: 204 })
  @answersProblems('image_not_found', 'not_found')
  async umount(
    @Param('ref', { schema: ref }) name: string,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<void> {
    // By its id also when the image itself is removed: its mount stays until somebody takes it
    // away.
    const id = await this.images.resolve(name).then(
      (image) => image.id,
      (error: unknown) => {
        if (isDigest(name)) return name
        throw error
      },
    )
    await this.mounts.umount(id, closedSignal(reply.raw))
  }
}

function lengthOf({ headers }: IncomingMessage): number | undefined {
  const length = headers['content-length']
  return length === undefined ? undefined : Number(length)
}
