import type { IncomingMessage } from 'node:http'
import { Controller, Get, Inject, Param, Query, Req, Res } from '@nestjs/common'
import { ApiOperation, ApiResponse, ApiTags } from '@nestjs/swagger'
import { archiveQuery } from '@strata/api'
import { archiveBytes, planArchive, type ArchivePlan, type SavedImage } from '@strata/archive'
import { Images } from '@strata/images'
import { parsePlatform, type Digest } from '@strata/oci'
import { BlobStore, OBJECT_STORE, type ByteRange, type ObjectStore } from '@strata/store'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { z } from 'zod'
import { answersProblems } from '../problems.js'
import { sendRanged } from '../ranged-body.js'

type ArchiveQuery = z.infer<typeof archiveQuery>

/**
 * Images out, as archives: streamed from the blobs, without a temporary file. The length is known
 * beforehand, and the same images give the same bytes, so a download that broke goes on by `Range`
 * with `If-Range`, also at another gateway.
 */
@ApiTags('images')
@Controller('v1/images')
export class ArchivesController {
  readonly #blobs: BlobStore

  constructor(
    private readonly images: Images,
    @Inject(OBJECT_STORE) store: ObjectStore,
  ) {
    this.#blobs = new BlobStore(store)
  }

  @Get(':ref/archive')
  @ApiOperation({ summary: 'The image, or several, as an archive that docker, podman and others load' })
  @ApiResponse({ status: 200, content: { 'application/x-tar': { schema: { type: 'string', format: 'binary' } } } })
  @ApiResponse({ status: 206, description: 'the part that Range asks for' })
  @ApiResponse({ status: 416, description: 'no such part' })
  @answersProblems('image_not_found', 'image_ambiguous', 'name_invalid', 'unsupported', 'corrupt')
  async archive(
    @Param('ref', { schema: z.string().min(1).max(512) }) first: string,
    @Query({ schema: archiveQuery }) query: ArchiveQuery,
    @Req() { raw: request }: FastifyRequest,
    @Res() reply: FastifyReply,
  ): Promise<void> {
    const wanted = [first, ...query.also]
    // Of several images the first is looked for again; the others are read as often.
    await this.images.reading(first, async () => this.#send(await this.#plan(wanted, query), request, reply))
  }

  async #send(plan: ArchivePlan, request: IncomingMessage, reply: FastifyReply): Promise<void> {
    const open = async (blob: Digest, part: ByteRange): Promise<AsyncIterable<Uint8Array>> =>
      (await this.#blobs.open(blob, part)).body
    await sendRanged(request, reply, {
      ...plan,
      type: 'application/x-tar',
      bytes: (range) => archiveBytes(plan, range, open),
    })
  }

  async #plan(wanted: readonly string[], { format, platform, since, have }: ArchiveQuery): Promise<ArchivePlan> {
    const saved = new Map<Digest, SavedImage>()
    for (const text of wanted) {
      // An image that was asked for by its id has no name in the archive, as with `docker save`.
      const { name, ...contents } = await this.images.contents(
        text,
        platform === undefined ? undefined : parsePlatform(platform),
      )
      const { digest } = contents.manifest
      saved.set(digest, { ...contents, names: [...(saved.get(digest)?.names ?? []), ...(name ? [name] : [])] })
    }
    const without = new Set(have)
    for (const text of since) {
      const { layers, whole } = await this.images.contents(text)
      for (const { digest } of [...layers, ...(whole?.layers ?? [])]) without.add(digest)
    }
    return planArchive([...saved.values()], format, without)
  }
}
