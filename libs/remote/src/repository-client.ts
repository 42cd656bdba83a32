import { StrataError } from '@strata/base'
import {
  algorithmOf,
  digestOf,
  hexOf,
  indexSchema,
  isDigest,
  MEDIA,
  parseJson,
  type Descriptor,
  type Digest,
  type Tag,
} from '@strata/oci'
import { BlobSource } from './blobs/blob-source.js'
import type { RangeMemory } from './blobs/range-memory.js'
import { RangedBody } from './blobs/ranged-body.js'
import { mediaTypeOf, nextPage, readTags } from './documents.js'
import type { HostClient, HostRequest } from './host-client.js'
import type { Capability } from './hosts/registry-hosts.js'
import type { RemoteLimits } from './limits.js'
import type {
  RemoteBlob,
  RemoteBlobDescriptor,
  RemoteManifest,
  RemoteOptions,
  RemoteRepository,
} from './remote-repository.js'
import { discard, headerOf, readBody, type Answer } from './wire/answer.js'
import { Attempts, withAttempts } from './wire/attempts.js'
import { Unavailable } from './wire/unavailable.js'
import { within } from './wire/within.js'

const MANIFEST_TYPES = [MEDIA.index, MEDIA.manifest, MEDIA.dockerIndex, MEDIA.dockerManifest].join(', ')
/** What is asked for; a registry may give fewer. */
const TAGS_A_PAGE = 1_000

/** A whole answer, and which host gave it. */
interface Got {
  readonly answer: Answer
  readonly body: Buffer
  readonly host: HostClient
}

interface Wanted {
  readonly request: Omit<HostRequest, 'expected'>
  /** Names it in messages. */
  readonly what: string
  readonly maxBytes: number
  /** Made for a 404. */
  readonly missing: () => StrataError
}

/** `RemoteRepository` of `RemoteRegistries`: which requests make each answer. */
export class RepositoryClient implements RemoteRepository {
  constructor(
    /** The repository as images name it. */
    private readonly name: string,
    /** Its path below a host's root. */
    private readonly path: string,
    private readonly hosts: () => Promise<readonly HostClient[]>,
    private readonly memory: RangeMemory,
    private readonly limits: RemoteLimits,
  ) {}

  async manifest(reference: Tag | Digest, options: RemoteOptions): Promise<RemoteManifest> {
    const what = `${this.name}${isDigest(reference) ? '@' : ':'}${reference}`
    const { answer, body } = await this.#get('resolve', options, {
      request: { at: `${this.path}/manifests/${reference}`, headers: { accept: MANIFEST_TYPES } },
      what,
      maxBytes: this.limits.maxManifestBytes,
      missing: () => new StrataError('manifest_not_found', `the registry has no ${what}`),
    })
    const told = headerOf(answer, 'docker-content-digest')
    const expected = isDigest(reference) ? reference : isDigest(told) ? told : undefined
    const digest = digestOf(body, expected ? algorithmOf(expected) : 'sha256')
    if (expected !== undefined && digest !== expected)
      throw new StrataError(
        'digest_mismatch',
        `${what}: the registry's bytes have the digest ${digest}, not ${expected}`,
      )
    return { digest, mediaType: mediaTypeOf(body, headerOf(answer, 'content-type'), what), bytes: body }
  }

  async blob(
    descriptor: RemoteBlobDescriptor,
    options: RemoteOptions & { readonly start?: number | undefined },
  ): Promise<RemoteBlob> {
    const { start = 0 } = options
    // One listener of the caller's signal for a blob, however many requests it takes.
    const signal = AbortSignal.any([options.signal])
    const { digest, size } = descriptor
    if (!Number.isSafeInteger(start) || start < 0 || start > size)
      throw new RangeError(`${start} is no place in a blob of ${size} bytes`)
    if (start === size) return { start, body: nothing() }
    const { rangesFromBytes, rangeBytes } = this.limits
    const hosts = await this.#hosts('pull')
    const path = `${this.path}/blobs/${digest}`
    const source = new BlobSource({ hosts, path, descriptor, limits: this.limits, options })
    const isLarge = size - start > rangesFromBytes
    const span = { start, end: isLarge ? start + rangeBytes : size }
    const first = await withAttempts(source.attempts(signal), async () => await source.open(span, signal))
    if (isLarge && first.isRange)
      return { start, body: new RangedBody(source, start, first, this.memory, this.limits, signal).read() }
    return { start: first.from, body: source.bytes({ start: first.from, end: size }, signal, first) }
  }

  async *referrers(digest: Digest, options: RemoteOptions): AsyncGenerator<Descriptor, undefined> {
    let isThere = false
    try {
      const pages = this.#pages(options, {
        request: { at: `${this.path}/referrers/${digest}`, headers: { accept: MEDIA.index } },
        what: `the referrers of ${this.name}@${digest}`,
        maxBytes: this.limits.maxReferrersBytes,
        missing: () => new NoReferrers(),
      })
      for await (const { body, what } of pages) {
        isThere = true
        yield* parseJson(indexSchema, body, what, 'registry_invalid').manifests
      }
    } catch (error) {
      if (isThere || !(error instanceof NoReferrers)) throw error
      yield* await this.#taggedReferrers(digest, options)
    }
  }

  async *tags(options: RemoteOptions): AsyncGenerator<Tag, undefined> {
    const pages = this.#pages(options, {
      request: { at: `${this.path}/tags/list?n=${TAGS_A_PAGE}` },
      what: `the tags of ${this.name}`,
      maxBytes: this.limits.maxTagPageBytes,
      missing: () => new StrataError('repository_not_found', `the registry has no repository ${this.name}`),
    })
    let count = 0
    for await (const { body, what } of pages)
      for (const tag of readTags(body, what)) {
        if (++count > this.limits.maxListed)
          throw new StrataError('limit_exceeded', `${what}: there are more than ${this.limits.maxListed}`)
        yield tag
      }
  }

  /** distribution-spec, "Referrers Tag Schema". */
  async #taggedReferrers(digest: Digest, options: RemoteOptions): Promise<Descriptor[]> {
    const tag = `${algorithmOf(digest)}-${hexOf(digest).slice(0, 64)}` as Tag
    try {
      const { bytes } = await this.manifest(tag, options)
      return parseJson(indexSchema, bytes, `the referrers of ${this.name}@${digest}`, 'registry_invalid').manifests
    } catch (error) {
      if (error instanceof StrataError && error.code === 'manifest_not_found') return []
      throw error
    }
  }

  async *#pages(
    options: RemoteOptions,
    first: Wanted,
  ): AsyncGenerator<{ readonly body: Buffer; readonly what: string }, undefined> {
    const { what } = first
    let got = await this.#get('resolve', options, first)
    for (let page = 1; ; page++) {
      yield { body: got.body, what }
      const link = nextPage(headerOf(got.answer, 'link'))
      if (link === undefined) return
      if (page === this.limits.maxPages)
        throw new StrataError('limit_exceeded', `${what} come in more than ${this.limits.maxPages} pages`)
      const { host, answer } = got
      const request = { ...first.request, at: { to: link, from: answer.url } }
      got = await this.#get('resolve', options, { ...first, request }, [host])
    }
  }

  /** A small answer with the status 200, from the first host that has it. */
  async #get(
    capability: Capability,
    options: RemoteOptions,
    wanted: Wanted,
    from?: readonly HostClient[],
  ): Promise<Got> {
    const hosts = from ?? (await this.#hosts(capability))
    const attempts = new Attempts(this.limits, options, () => hosts.some(({ hasAnswered }) => hasAnswered))
    return await withAttempts(attempts, async () => {
      let failure: unknown
      for (const host of hosts)
        try {
          return await this.#getFrom(host, wanted, options.signal)
        } catch (error) {
          options.signal.throwIfAborted()
          failure = error
        }
      throw failure
    })
  }

  async #getFrom(host: HostClient, { request, what, maxBytes, missing }: Wanted, signal: AbortSignal): Promise<Got> {
    const { requestMs } = this.limits
    const late = (): Error => new Unavailable(`${what} did not come within ${requestMs / 1000} s`)
    return await within(requestMs, signal, late, async (inTime) => {
      const answer = await host.open({ ...request, expected: [200, 404] }, inTime)
      if (answer.status === 404) {
        discard(answer)
        throw missing()
      }
      return { answer, host, body: await readBody(answer, maxBytes, what) }
    })
  }

  async #hosts(capability: Capability): Promise<readonly HostClient[]> {
    const able = (await this.hosts()).filter(({ host }) => host.capabilities.has(capability))
    if (able.length > 0) return able
    throw new StrataError('hosts_invalid', `no host in the configuration of ${this.name} may be asked to ${capability}`)
  }
}

/** The registry has no referrers API. */
class NoReferrers extends StrataError {
  constructor() {
    super('not_found', 'the registry lists no referrers')
  }
}

async function* nothing(): AsyncGenerator<Uint8Array, undefined> {
  // A blob of no bytes, or the end of one.
}
