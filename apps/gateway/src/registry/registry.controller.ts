import type { IncomingMessage } from 'node:http'
import { Readable } from 'node:stream'
import { All, Controller, Inject, Logger, Req, Res } from '@nestjs/common'
import { ApiExcludeController } from '@nestjs/swagger'
import { StrataError } from '@strata/base'
import { MEDIA, type Algorithm, type Repository, type Tag } from '@strata/oci'
import { answerEarly, bodyLimits, closedSignal, nameRoute, ReadsAnyBody, RequestBodies } from '@strata/platform'
import type { Chunk, UploadStatus } from '@strata/store'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { GATEWAY_CONFIG, type GatewayConfig } from '../config.js'
import { matches, sendRanged } from '../ranged-body.js'
import { isAccepted } from './accept.js'
import { releaseOnceClosed, type CountBytes } from './answer-memory.js'
import { digestIn, manifestReferenceOf, nameOf, repositoryOf, tagIn } from './names.js'
import { registryErrors } from './errors.js'
import type { SlowestClient } from './gathered-body.js'
import { linkTo, pageIn } from './page.js'
import { PushService } from './push.service.js'
import { RegistryService } from './registry.service.js'
import { chunkOf } from './request-chunk.js'
import { patternOf, routeOf, type Call, type Operation } from './routes.js'
import { tokenFollows } from './token-follows.js'
import { warningOf } from './warning.js'

type Handler = (call: Call, request: FastifyRequest, reply: FastifyReply) => Promise<void>

/**
 * The registry API: `/v2/` by distribution-spec 1.1.1. It reads requests and writes answers, and
 * `RegistryService` and `PushService` do the work. Routes are in routes.ts, errors in errors.ts.
 *
 * Nest has one route for all of them, because its router cannot match names with slashes.
 */
@ApiExcludeController()
@Controller()
export class RegistryController {
  readonly #handlers: Readonly<Record<Operation, Handler>> = {
    base: (_, __, reply) => this.#base(reply),
    catalog: (call, _, reply) => this.#catalog(call, reply),
    tags: (call, _, reply) => this.#tags(call, reply),
    referrers: (call, _, reply) => this.#referrers(call, reply),
    getManifest: (call, request, reply) => this.#manifest(call, request, reply),
    putManifest: (call, request, reply) => this.#putManifest(call, request, reply),
    deleteManifest: (call, _, reply) => this.#deleteManifest(call, reply),
    getBlob: (call, request, reply) => this.#blob(call, request, reply),
    deleteBlob: (call, _, reply) => this.#deleteBlob(call, reply),
    beginUpload: (call, request, reply) => this.#begin(call, request, reply),
    uploadStatus: (call, _, reply) => this.#status(call, reply),
    appendChunk: (call, request, reply) => this.#append(call, request, reply),
    finishUpload: (call, request, reply) => this.#finish(call, request, reply),
    cancelUpload: (call, _, reply) => this.#cancel(call, reply),
  }
  readonly #logger = new Logger('registry')
  #isWarned = false
  readonly #bodies: RequestBodies
  readonly #slowest: SlowestClient

  constructor(
    private readonly registry: RegistryService,
    private readonly push: PushService,
    @Inject(GATEWAY_CONFIG) private readonly config: GatewayConfig,
  ) {
    this.#slowest = { idleMs: config.STRATA_UPLOAD_IDLE_MS, bytesPerSecond: config.STRATA_PUSH_MIN_RATE }
    this.#bodies = new RequestBodies({ ...bodyLimits(config), bytes: config.STRATA_MAX_MANIFEST_BYTES })
  }

  @All(['v2', 'v2/*'])
  @ReadsAnyBody()
  async serve(@Req() request: FastifyRequest, @Res() reply: FastifyReply): Promise<void> {
    const call = routeOf(request.method, request.raw.url ?? '')
    nameRoute(request.raw, patternOf(call.operation))
    reply.raw.setHeader('docker-distribution-api-version', 'registry/2.0')
    try {
      await this.#handlers[call.operation](call, request, reply)
    } catch (error) {
      // All of the body was read: the filter answers.
      if (request.raw.complete) throw error
      reply.hijack()
      await answerEarly(request.raw, reply.raw, error, Infinity, registryErrors)
    }
  }

  /** Two bytes, which need no room: `docker login` and every pull begin with it. */
  async #base(reply: FastifyReply): Promise<void> {
    await reply.header('content-type', 'application/json').send(Buffer.from('{}'))
  }

  async #catalog({ query }: Call, reply: FastifyReply): Promise<void> {
    const { limit, last } = pageIn(query)
    const after = last === undefined ? last : repositoryOf(last)
    await this.#page(reply, limit, async () => {
      const { repositories, next } = await this.registry.catalog(limit, after)
      if (next !== undefined) void reply.header('link', linkTo('/v2/_catalog', { n: limit, last: nameOf(next) }))
      return { repositories: repositories.map(nameOf) }
    })
  }

  async #tags({ name, query }: Call, reply: FastifyReply): Promise<void> {
    const page = pageIn(query)
    const repository = repositoryOf(name)
    await this.#page(reply, page.limit, async () => {
      const { tags, next } = await this.registry.tags(repository, page)
      if (next !== undefined) void reply.header('link', linkTo(`/v2/${name}/tags/list`, { n: page.limit, last: next }))
      return { name, tags }
    })
  }

  async #referrers({ name, last: digest, query }: Call, reply: FastifyReply): Promise<void> {
    const subject = digestIn(digest)
    const artifactType = query.get('artifactType') ?? undefined
    const { limit, last } = pageIn(query)
    const [repository, after] = [repositoryOf(name), last === undefined ? last : digestIn(last)]
    if (artifactType !== undefined) void reply.header('oci-filters-applied', 'artifactType')
    const build = async (count: CountBytes): Promise<object> => {
      const { referrers, next } = await this.registry.referrers(repository, subject, limit, {
        artifactType,
        after,
        count,
      })
      if (next !== undefined)
        void reply.header('link', linkTo(`/v2/${name}/referrers/${subject}`, { artifactType, n: limit, last: next }))
      return { schemaVersion: 2, mediaType: MEDIA.index, manifests: referrers }
    }
    await this.#page(reply, 0, build, MEDIA.index)
  }

  async #manifest({ name, last }: Call, { method, headers }: FastifyRequest, reply: FastifyReply): Promise<void> {
    const [repository, reference] = [repositoryOf(name), manifestReferenceOf(last)]
    const { held, ...found } = await this.registry.manifest(repository, reference, (manifest) => {
      expectAccepted(headers.accept, repository, last, manifest.mediaType)
      return method === 'GET' && !matches(headers['if-none-match'], `"${manifest.digest}"`)
    })
    if (held) releaseOnceClosed(held, reply.raw)
    const { digest, mediaType, size, deprecated } = found
    void reply.headers({
      'docker-content-digest': digest,
      etag: `"${digest}"`,
      vary: 'accept',
      ...warningOf(deprecated, repository, reference),
    })
    if (matches(headers['if-none-match'], `"${digest}"`)) void reply.code(304)
    else void reply.headers({ 'content-type': mediaType, 'content-length': size })
    await reply.send(held?.bytes)
  }

  async #blob({ name, last }: Call, { raw }: FastifyRequest, reply: FastifyReply): Promise<void> {
    const digest = digestIn(last)
    const repository = repositoryOf(name)
    const { size, holders, parts, address } = await this.registry.blob(repository, digest)
    // Who pushes asks first, and does not send what is there.
    if (raw.method === 'HEAD') await this.push.keep(repository, digest, holders)
    const headers = { 'docker-content-digest': digest }
    const isKnown = matches(raw.headers['if-none-match'], `"${digest}"`)
    if (address && raw.method === 'GET' && !isKnown && this.#mayLeave(raw)) {
      await reply
        .code(307)
        .headers({ ...headers, location: await address(), 'content-length': 0 })
        .send()
      return
    }
    await sendRanged(raw, reply, { size, etag: digest, type: 'application/octet-stream', headers, parts })
  }

  /** Whether a client may be sent to the public endpoint: its token must not go there, too. */
  #mayLeave({ headers: { host, authorization } }: IncomingMessage): boolean {
    const endpoint = this.config.STRATA_S3_PUBLIC_ENDPOINT
    if (endpoint === undefined || authorization === undefined || !tokenFollows(host, endpoint)) return true
    if (!this.#isWarned)
      this.#logger.warn(
        `clients that know the gateway as ${JSON.stringify(host)} would send its token on to ${endpoint}: they get the bytes of blobs from the gateway. Give the S3 server a name that is not the gateway's and not below it (STRATA_S3_PUBLIC_ENDPOINT)`,
      )
    this.#isWarned = true
    return false
  }

  async #deleteBlob({ name, last }: Call, reply: FastifyReply): Promise<void> {
    await this.push.deleteBlob(repositoryOf(name), digestIn(last))
    await reply.code(202).send()
  }

  async #putManifest({ name, last, query }: Call, { raw }: FastifyRequest, reply: FastifyReply): Promise<void> {
    const [repository, reference] = [repositoryOf(name), manifestReferenceOf(last)]
    const tags = tagsIn(query)
    const mediaType = raw.headers['content-type']?.split(';')[0]?.trim() ?? ''
    const { digest, subject } = await this.#bodies.use(raw, (bytes) =>
      this.push.manifest(repository, reference, { bytes, mediaType, tags }),
    )
    void reply.headers({
      location: `/v2/${name}/manifests/${digest}`,
      'docker-content-digest': digest,
      ...(subject === undefined ? {} : { 'oci-subject': subject }),
      ...(tags.length === 0 ? {} : { 'oci-tag': tags }),
    })
    await reply.code(201).send()
  }

  async #deleteManifest({ name, last }: Call, reply: FastifyReply): Promise<void> {
    await this.push.deleteManifest(repositoryOf(name), manifestReferenceOf(last))
    await reply.code(202).send()
  }

  /**
   * Begins an upload. With `digest` the body is the whole blob. With `mount` the blob is in the
   * store already.
   */
  async #begin({ name, query }: Call, { raw }: FastifyRequest, reply: FastifyReply): Promise<void> {
    const repository = repositoryOf(name)
    const [digest, mount, from] = [query.get('digest'), query.get('mount'), query.get('from')]
    if (digest !== null) {
      await this.push.put(repository, digestIn(digest), chunkOf(raw, this.#slowest) ?? emptyChunk())
      return this.#isThere(name, digest, reply)
    }
    if (mount !== null) {
      const isMounted = await this.push.mount(
        repository,
        digestIn(mount),
        from === null ? undefined : repositoryOf(from),
      )
      if (isMounted) return this.#isThere(name, mount, reply)
    }
    void reply.header('oci-chunk-min-length', this.push.chunkBytes)
    await this.#accepted(name, await this.push.begin(repository, algorithmIn(query)), reply)
  }

  async #status({ name, last }: Call, reply: FastifyReply): Promise<void> {
    await this.#accepted(name, await this.push.status(repositoryOf(name), last), reply, 204)
  }

  async #append({ name, last }: Call, { raw }: FastifyRequest, reply: FastifyReply): Promise<void> {
    const repository = repositoryOf(name)
    const status = await this.#atRange(name, last, reply, () =>
      this.push.append(repository, last, chunkOf(raw, this.#slowest) ?? emptyChunk()),
    )
    await this.#accepted(name, status, reply)
  }

  async #finish({ name, last, query }: Call, { raw }: FastifyRequest, reply: FastifyReply): Promise<void> {
    const repository = repositoryOf(name)
    const digest = digestIn(query.get('digest') ?? '')
    await this.#atRange(name, last, reply, () =>
      this.push.finish(repository, last, digest, chunkOf(raw, this.#slowest), closedSignal(reply.raw)),
    )
    await this.#isThere(name, digest, reply)
  }

  /** If a chunk does not follow what was received, the answer says where the upload ends. */
  async #atRange<T>(name: string, id: string, reply: FastifyReply, work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (error) {
      if (!(error instanceof StrataError && error.code === 'range_invalid')) throw error
      const { location, range } = headersOf(name, await this.push.status(repositoryOf(name), id))
      reply.raw.setHeader('location', location).setHeader('range', range)
      throw error
    }
  }

  async #cancel({ name, last }: Call, reply: FastifyReply): Promise<void> {
    await this.push.cancel(repositoryOf(name), last)
    await reply.code(204).send()
  }

  async #isThere(name: string, digest: string, reply: FastifyReply): Promise<void> {
    const location = `/v2/${name}/blobs/${digest}`
    await reply.code(201).headers({ location, 'docker-content-digest': digest, 'content-length': 0 }).send()
  }

  async #accepted(name: string, status: UploadStatus, reply: FastifyReply, code = 202): Promise<void> {
    await reply.code(code).headers(headersOf(name, status)).send()
  }

  /** As bytes: Fastify gives a text's type a `charset`, which registries leave out. */
  async #page(
    reply: FastifyReply,
    names: number,
    build: (count: CountBytes) => Promise<object>,
    type = 'application/json',
  ): Promise<void> {
    const held = await this.registry.page(names, build)
    releaseOnceClosed(held, reply.raw)
    await reply.header('content-type', type).send(held.bytes)
  }
}

/** How many tags the query of one manifest may have. */
const MAX_TAGS = 100
const emptyChunk = (): Chunk => ({ source: Readable.from([]), length: 0 })

/** The headers that each answer about an upload has. */
function headersOf(name: string, { id, bytes }: UploadStatus) {
  return {
    location: `/v2/${name}/blobs/uploads/${id}`,
    range: `0-${Math.max(bytes - 1, 0)}`,
    'docker-upload-uuid': id,
    'content-length': '0',
  }
}

/** @throws StrataError `name_invalid`, `limit_exceeded` */
function tagsIn(query: URLSearchParams): Tag[] {
  const tags = query.getAll('tag')
  if (tags.length > MAX_TAGS)
    throw new StrataError('limit_exceeded', `the query has ${tags.length} tags, and may have ${MAX_TAGS}`)
  return tags.map(tagIn)
}

/** @throws StrataError `digest_invalid` */
function algorithmIn(query: URLSearchParams): Algorithm | undefined {
  const name = query.get('digest-algorithm')
  if (name === null || name === 'sha256' || name === 'sha512') return name ?? undefined
  throw new StrataError(
    'digest_invalid',
    `${JSON.stringify(name.slice(0, 50))} is no algorithm that is taken: sha256, sha512`,
  )
}

/** @throws StrataError `manifest_not_found` */
function expectAccepted(
  accept: string | undefined,
  repository: Repository,
  reference: string,
  mediaType: string,
): void {
  if (isAccepted(accept, mediaType)) return
  throw new StrataError(
    'manifest_not_found',
    `${repository} has ${JSON.stringify(reference)} as ${mediaType}, which is not among the types that the client accepts (Accept: ${accept?.slice(0, 500) ?? ''})`,
  )
}
