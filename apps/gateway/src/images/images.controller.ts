import { randomUUID } from 'node:crypto'
import { Body, Controller, Param, Query, Req, Res } from '@nestjs/common'
import { ApiBody, ApiHeader, ApiResponse, ApiTags } from '@nestjs/swagger'
import {
  API,
  REGISTRY_AUTH_HEADER,
  type ImageList,
  type ImageView,
  type LoadQuery,
  type MountResult,
  type RemoveImageResult,
} from '@strata/api'
import { bytesLeft } from '@strata/intake'
import type { ErrorCode } from '@strata/base'
import { answerEarly, closedSignal, ReadsBody } from '@strata/platform'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { z } from 'zod'
import { Endpoint } from '../endpoint.js'
import { sendRanged } from '../ranged-body.js'
import { namesDescriptor, parseDescriptor } from './descriptor-body.js'
import { ImagesService } from './images.service.js'

const NAMES_IMAGE: readonly ErrorCode[] = ['image_not_found', 'image_ambiguous']
const BYTES = { type: 'string', format: 'binary' } as const

const LOADS: readonly ErrorCode[] = [
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
]
/** Of a pull. */
const PULLS: readonly ErrorCode[] = [
  'registry_unavailable',
  'registry_denied',
  'registry_invalid',
  'address_refused',
  'hosts_invalid',
  'repository_not_found',
  'manifest_not_found',
  'blob_not_found',
]

@ApiTags('images')
@Controller()
export class ImagesController {
  constructor(private readonly images: ImagesService) {}

  @Endpoint(
    API.loadImages,
    'Loads the images of an archive: the body, docker’s or an OCI layout in a tar, plain, gzip, zstd, bzip2 or xz. With ?import makes one image of a root file system in a tar. With ?pull there is no body, and the image comes from another registry',
    [...LOADS, ...PULLS],
  )
  @ReadsBody()
  @ApiHeader({ name: REGISTRY_AUTH_HEADER, required: false, description: 'of a pull: docker’s AuthConfig, base64url' })
  @ApiBody({ schema: BYTES })
  @ApiResponse({ status: 202, description: 'with ?wait=false, once the body is in; Location is the job' })
  async load(
    @Query({ schema: API.loadImages.query }) query: LoadQuery,
    @Req() request: FastifyRequest,
    @Res() reply: FastifyReply,
  ): Promise<void> {
    reply.hijack()
    const { raw } = request
    const response = reply.raw
    // The intake may take the socket away from Node. Then Node's parser does not know where the
    // body ended.
    response.shouldKeepAlive = false
    const gone = closedSignal(response)
    const job = query.job ?? randomUUID()
    try {
      await this.#begin(request, query, job, gone)
      if (!query.wait) {
        response.writeHead(202, { location: `/v1/jobs/${job}`, 'content-length': 0 }).end()
        return
      }
      const result = JSON.stringify(await this.images.loaded(job, gone))
      response
        .writeHead(API.loadImages.status, {
          'content-type': 'application/json',
          'content-length': Buffer.byteLength(result),
          location: `/v1/jobs/${job}`,
        })
        .end(result)
    } catch (error) {
      await answerEarly(raw, response, error, bytesLeft(raw))
    }
  }

  async #begin(request: FastifyRequest, query: LoadQuery, job: string, gone: AbortSignal): Promise<void> {
    const { raw } = request
    const { pull } = query
    if (pull !== undefined) return this.images.pull(raw, { ...query, pull }, job)
    const named = namesDescriptor(raw) ? parseDescriptor(request.body) : undefined
    await this.images.receive({ request: raw, named }, query, job, gone)
  }

  @Endpoint(API.loadImagesByPut, 'As POST: for clients that upload files by PUT (curl -T)', LOADS)
  @ReadsBody()
  @ApiBody({ schema: BYTES })
  @ApiResponse({ status: 202, description: 'with ?wait=false, once the body is in; Location is the job' })
  async loadByPut(
    @Query({ schema: API.loadImagesByPut.query }) query: LoadQuery,
    @Req() request: FastifyRequest,
    @Res() reply: FastifyReply,
  ): Promise<void> {
    return this.load(query, request, reply)
  }

  @Endpoint(
    API.listImages,
    'Images in pages. Pages follow the digests; within a page, named images come first, then the newest',
  )
  async list(
    @Query({ schema: API.listImages.query }) { limit, after }: z.infer<typeof API.listImages.query>,
  ): Promise<ImageList> {
    return this.images.list(limit, after)
  }

  @Endpoint(API.getImage, 'An image by name, digest or the beginning of its id', [
    ...NAMES_IMAGE,
    'name_invalid',
    'unsupported',
  ])
  async get(
    @Param('ref', { schema: API.getImage.param }) ref: string,
    @Query({ schema: API.getImage.query }) { platform }: z.infer<typeof API.getImage.query>,
  ): Promise<ImageView> {
    return this.images.get(ref, platform)
  }

  @Endpoint(API.removeImage, 'Takes a name away; with the last one the image', [
    ...NAMES_IMAGE,
    'image_has_tags',
    'image_in_use',
    'node_unavailable',
  ])
  async remove(
    @Param('ref', { schema: API.removeImage.param }) ref: string,
    @Query({ schema: API.removeImage.query }) { force }: z.infer<typeof API.removeImage.query>,
  ): Promise<RemoveImageResult> {
    return this.images.remove(ref, force)
  }

  @Endpoint(API.tagImage, 'Gives the image one more name', [...NAMES_IMAGE, 'name_invalid'])
  @ApiBody({ standardSchema: API.tagImage.body } as object)
  @ApiResponse({ status: 201 })
  async tag(
    @Param('ref', { schema: API.tagImage.param }) ref: string,
    @Body({ schema: API.tagImage.body }) { name }: z.infer<typeof API.tagImage.body>,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<void> {
    await this.images.tag(ref, name, closedSignal(reply.raw))
  }

  @Endpoint(API.mountImage, 'Mounts the image’s root read-only on a node', [
    'image_not_found',
    'node_unavailable',
    'driver_unavailable',
    'layer_missing',
  ])
  async mount(
    @Param('ref', { schema: API.mountImage.param }) ref: string,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<MountResult> {
    return this.images.mount(ref, closedSignal(reply.raw))
  }

  @Endpoint(API.umountImage, 'Takes that mount away', ['image_not_found', 'not_found'])
  @ApiResponse({ status: 204 })
  async umount(
    @Param('ref', { schema: API.umountImage.param }) ref: string,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<void> {
    await this.images.umount(ref, closedSignal(reply.raw))
  }

  @Endpoint(API.saveImages, 'Images as one archive that docker, podman and others load', [
    ...NAMES_IMAGE,
    'name_invalid',
    'unsupported',
    'corrupt',
    'layer_missing',
  ])
  @ApiResponse({ status: 200, content: { 'application/x-tar': { schema: BYTES } } })
  @ApiResponse({ status: 206, description: 'the part that Range asks for' })
  @ApiResponse({ status: 416, description: 'no such part' })
  async archive(
    @Query({ schema: API.saveImages.query }) query: z.infer<typeof API.saveImages.query>,
    @Req() { raw }: FastifyRequest,
    @Res() reply: FastifyReply,
  ): Promise<void> {
    await this.images.archive(query, (body) => sendRanged(raw, reply.raw, body))
  }
}
