import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http'
import { Readable } from 'node:stream'
import { Inject, Injectable, Logger } from '@nestjs/common'
import { StrataError } from '@strata/base'
import { MEDIA, type Algorithm, type Repository, type Tag } from '@strata/oci'
import { bodyLimits, closedSignal, nameRoute, RequestBodies, type TreeServer } from '@strata/platform'
import type { Chunk, UploadStatus } from '@strata/store'
import { GATEWAY_CONFIG, type GatewayConfig } from '../config.js'
import { matches, sendRanged } from '../ranged-body.js'
import { isAccepted } from './accept.js'
import { releaseOnceClosed, type CountBytes } from './answer-memory.js'
import { digestIn, manifestReferenceOf, nameOf, repositoryOf, tagIn } from './names.js'
import type { SlowestClient } from './gathered-body.js'
import { linkTo, pageIn } from './page.js'
import { PushService } from './push.service.js'
import { RegistryService } from './registry.service.js'
import { withChunk } from './request-chunk.js'
import { routeOf, type Call, type Operation } from './routes.js'
import { tokenFollows } from './token-follows.js'
import { warningOf } from './warning.js'

type Handler = (call: Call, request: IncomingMessage, response: ServerResponse) => void | Promise<void>

/**
 * The registry API: `/v2/` by distribution-spec 1.1.1. It reads requests and writes answers, and
 * `RegistryService` and `PushService` do the work. Routes are in routes.ts, errors in errors.ts.
 *
 * It is served past the framework (`Tree`): Nest's router cannot match names with slashes, and
 * takes more time than the answer to a small request does.
 */
@Injectable()
export class RegistryApi implements TreeServer {
  readonly #handlers: Readonly<Record<Operation, Handler>> = {
    base: (_, __, response) => this.#base(response),
    catalog: (call, _, response) => this.#catalog(call, response),
    tags: (call, _, response) => this.#tags(call, response),
    referrers: (call, _, response) => this.#referrers(call, response),
    getManifest: (call, request, response) => this.#manifest(call, request, response),
    putManifest: (call, request, response) => this.#putManifest(call, request, response),
    deleteManifest: (call, _, response) => this.#deleteManifest(call, response),
    getBlob: (call, request, response) => this.#blob(call, request, response),
    deleteBlob: (call, _, response) => this.#deleteBlob(call, response),
    beginUpload: (call, request, response) => this.#begin(call, request, response),
    uploadStatus: (call, _, response) => this.#status(call, response),
    appendChunk: (call, request, response) => this.#append(call, request, response),
    finishUpload: (call, request, response) => this.#finish(call, request, response),
    cancelUpload: (call, _, response) => this.#cancel(call, response),
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

  async serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const call = routeOf(request.method ?? '', request.url ?? '')
    nameRoute(request, call.pattern)
    response.setHeader('docker-distribution-api-version', 'registry/2.0')
    await this.#handlers[call.operation](call, request, response)
  }

  /** Two bytes, which need no room: `docker login` and every pull begin with it. */
  #base(response: ServerResponse): void {
    answer(response, 200, { 'content-type': 'application/json' }, Buffer.from('{}'))
  }

  async #catalog({ query }: Call, response: ServerResponse): Promise<void> {
    const { limit, last } = pageIn(query)
    const after = last === undefined ? last : repositoryOf(last)
    await this.#page(response, limit, async () => {
      const { repositories, next } = await this.registry.catalog(limit, after)
      return {
        list: { repositories: repositories.map(nameOf) },
        link: next === undefined ? next : linkTo('/v2/_catalog', { n: limit, last: nameOf(next) }),
      }
    })
  }

  async #tags({ name, query }: Call, response: ServerResponse): Promise<void> {
    const page = pageIn(query)
    const repository = repositoryOf(name)
    await this.#page(response, page.limit, async () => {
      const { tags, next } = await this.registry.tags(repository, page)
      return {
        list: { name, tags },
        link: next === undefined ? next : linkTo(`/v2/${name}/tags/list`, { n: page.limit, last: next }),
      }
    })
  }

  async #referrers({ name, last: digest, query }: Call, response: ServerResponse): Promise<void> {
    const subject = digestIn(digest)
    const artifactType = query.get('artifactType') ?? undefined
    const { limit, last } = pageIn(query)
    const [repository, after] = [repositoryOf(name), last === undefined ? last : digestIn(last)]
    if (artifactType !== undefined) response.setHeader('oci-filters-applied', 'artifactType')
    const build = async (count: CountBytes): Promise<Page> => {
      const { referrers, next } = await this.registry.referrers(repository, subject, limit, {
        artifactType,
        after,
        count,
      })
      return {
        list: { schemaVersion: 2, mediaType: MEDIA.index, manifests: referrers },
        link:
          next === undefined
            ? next
            : linkTo(`/v2/${name}/referrers/${subject}`, { artifactType, n: limit, last: next }),
      }
    }
    await this.#page(response, 0, build, MEDIA.index)
  }

  async #manifest({ name, last }: Call, { method, headers }: IncomingMessage, response: ServerResponse) {
    const [repository, reference] = [repositoryOf(name), manifestReferenceOf(last)]
    const { held, ...found } = await this.registry.manifest(repository, reference, (manifest) => {
      expectAccepted(headers.accept, repository, last, manifest.mediaType)
      return method === 'GET' && !matches(headers['if-none-match'], `"${manifest.digest}"`)
    })
    if (held) releaseOnceClosed(held, response)
    const { digest, mediaType, size, deprecated } = found
    const head = {
      'docker-content-digest': digest,
      etag: `"${digest}"`,
      vary: 'accept',
      ...warningOf(deprecated, repository, reference),
    }
    if (matches(headers['if-none-match'], head.etag)) answer(response, 304, head)
    else answer(response, 200, { ...head, 'content-type': mediaType, 'content-length': size }, held?.bytes)
  }

  async #blob({ name, last }: Call, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const digest = digestIn(last)
    const repository = repositoryOf(name)
    const { size, holders, parts, address } = await this.registry.blob(repository, digest)
    // Who pushes asks first, and does not send what is there.
    if (request.method === 'HEAD') await this.push.keep(repository, digest, holders)
    const headers = { 'docker-content-digest': digest }
    const isKnown = matches(request.headers['if-none-match'], `"${digest}"`)
    if (address && request.method === 'GET' && !isKnown && this.#mayLeave(request)) {
      answer(response, 307, { ...headers, location: await address() })
      return
    }
    await sendRanged(request, response, { size, etag: digest, type: 'application/octet-stream', headers, parts })
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

  async #deleteBlob({ name, last }: Call, response: ServerResponse): Promise<void> {
    await this.push.deleteBlob(repositoryOf(name), digestIn(last))
    answer(response, 202)
  }

  async #putManifest({ name, last, query }: Call, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const [repository, reference] = [repositoryOf(name), manifestReferenceOf(last)]
    const tags = tagsIn(query)
    const mediaType = request.headers['content-type']?.split(';')[0]?.trim() ?? ''
    const { digest, subject } = await this.#bodies.use(request, (bytes) =>
      this.push.manifest(repository, reference, { bytes, mediaType, tags }),
    )
    answer(response, 201, {
      location: `/v2/${name}/manifests/${digest}`,
      'docker-content-digest': digest,
      ...(subject === undefined ? {} : { 'oci-subject': subject }),
      ...(tags.length === 0 ? {} : { 'oci-tag': tags }),
    })
  }

  async #deleteManifest({ name, last }: Call, response: ServerResponse): Promise<void> {
    await this.push.deleteManifest(repositoryOf(name), manifestReferenceOf(last))
    answer(response, 202)
  }

  /**
   * Begins an upload. With `digest` the body is the whole blob. With `mount` the blob is in the
   * store already.
   */
  async #begin({ name, query }: Call, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const repository = repositoryOf(name)
    const [digest, mount, from] = [query.get('digest'), query.get('mount'), query.get('from')]
    if (digest !== null) {
      const blob = digestIn(digest)
      await withChunk(request, this.#slowest, (chunk = emptyChunk()) => this.push.put(repository, blob, chunk))
      return isThere(name, digest, response)
    }
    if (mount !== null) {
      const isMounted = await this.push.mount(
        repository,
        digestIn(mount),
        from === null ? undefined : repositoryOf(from),
      )
      if (isMounted) return isThere(name, mount, response)
    }
    const status = await this.push.begin(repository, algorithmIn(query))
    answer(response, 202, { ...headersOf(name, status), 'oci-chunk-min-length': this.push.chunkBytes })
  }

  async #status({ name, last }: Call, response: ServerResponse): Promise<void> {
    answer(response, 204, headersOf(name, await this.push.status(repositoryOf(name), last)))
  }

  async #append({ name, last }: Call, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const repository = repositoryOf(name)
    const status = await this.#atRange(name, last, response, () =>
      withChunk(request, this.#slowest, (chunk = emptyChunk()) => this.push.append(repository, last, chunk)),
    )
    answer(response, 202, headersOf(name, status))
  }

  async #finish({ name, last, query }: Call, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const repository = repositoryOf(name)
    const digest = digestIn(query.get('digest') ?? '')
    await this.#atRange(name, last, response, () =>
      withChunk(request, this.#slowest, (chunk) =>
        this.push.finish(repository, last, digest, chunk, closedSignal(response)),
      ),
    )
    isThere(name, digest, response)
  }

  /** If a chunk does not follow what was received, the answer says where the upload ends. */
  async #atRange<T>(name: string, id: string, response: ServerResponse, work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (error) {
      if (!(error instanceof StrataError && error.code === 'range_invalid')) throw error
      const { location, range } = headersOf(name, await this.push.status(repositoryOf(name), id))
      response.setHeader('location', location).setHeader('range', range)
      throw error
    }
  }

  async #cancel({ name, last }: Call, response: ServerResponse): Promise<void> {
    await this.push.cancel(repositoryOf(name), last)
    answer(response, 204)
  }

  async #page(
    response: ServerResponse,
    names: number,
    build: (count: CountBytes) => Promise<Page>,
    type = 'application/json',
  ): Promise<void> {
    let link: string | undefined
    const held = await this.registry.page(names, async (count) => {
      const page = await build(count)
      link = page.link
      return page.list
    })
    releaseOnceClosed(held, response)
    answer(response, 200, { 'content-type': type, ...(link === undefined ? {} : { link }) }, held.bytes)
  }
}

/** A page of a list, and the way to the next one. A page that there is no room for has none. */
interface Page {
  readonly list: object
  readonly link: string | undefined
}

const NOTHING: Buffer = Buffer.alloc(0)
/** A body of at most so many bytes is given to Node as a text, which goes with the head at once. */
const TEXT_BYTES = 8 * 1024

/** `content-length` is that of `bytes`, unless the headers have another one (HEAD). */
function answer(response: ServerResponse, status: number, headers: OutgoingHttpHeaders = {}, bytes = NOTHING): void {
  const length = status === 204 || status === 304 ? {} : { 'content-length': bytes.length }
  response.writeHead(status, { ...length, ...headers })
  if (bytes.length <= TEXT_BYTES) response.end(bytes.toString('latin1'), 'latin1')
  else response.end(bytes)
}

function isThere(name: string, digest: string, response: ServerResponse): void {
  answer(response, 201, { location: `/v2/${name}/blobs/${digest}`, 'docker-content-digest': digest })
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
