import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { Readable } from 'node:stream'
import { until, type Answer, type StrataUnderTest } from '@strata/e2e/testing'
import { Random } from '@strata/fuzz/random'
import { digestOf, type Digest } from '@strata/oci'
import { BlobStore, Leases, listAll, piecesOf, PREFIX } from '@strata/store'
import { Certain, type Outcome } from './testing/certain.js'
import { madeImages, type Part, type PushedImage } from './testing/pushed-images.js'

const CLIENTS = 8
const REPOSITORIES = ['r/one', 'r/two', 'r/three', 'four', 'ghcr.io/r/five'] as const
const TAGS = ['a', 'b', 'c', 'd', 'e', 'f'] as const
/** How long a client waits after each thing that it did. */
const PACE_MS = 150
/** Fewer bytes than these are sent in one chunk only. */
const FEW = 2
/** A promise is relied on for this part of its time: its answer was on its way, too. */
const RELIED_ON = 0.5

export interface RegistryChurnOptions {
  readonly seed: number
  readonly minutes: number
  /** The sockets of the gateways. */
  readonly gateways: readonly string[]
  /** `STRATA_PUSH_EXPIRY_MS` and `STRATA_PUSH_HOLD_MS` of the services. */
  readonly expiryMs: number
  readonly holdMs: number
}

export interface RegistryChurned {
  /** What was done, how often. */
  readonly done: Readonly<Record<string, number>>
  readonly problems: readonly string[]
}

interface Client {
  readonly random: Random
}

/**
 * Eight clients of the registry push (each way that there is), pull, delete, prune and collect at
 * random, through any of the gateways, until the time is over or something is wrong.
 *
 * - A manifest that was answered 201, and that nobody deletes, is pulled whole: its bytes, and
 *   those of each of its blobs, are what was pushed.
 * - A tag that nobody changes is what it was set to.
 * - A blob that a client was told of is there when its manifest is put.
 * - No request gets an answer that a client does not expect.
 *
 * `finish` then looks at all, collects, and looks at what is left in the store.
 */
export class RegistryChurn {
  readonly #images: readonly PushedImage[]
  readonly #manifests = new Map<string, Certain<'there' | 'absent'>>()
  readonly #tags = new Map<string, Certain<Digest | 'absent'>>()
  /** Blobs that clients have deleted, by repository: nothing is certain of these. */
  readonly #blobs = new Map<string, Certain<'as pushed' | 'deleted'>>()
  /** When a client was told of a blob last, by repository. */
  readonly #told = new Map<string, number>()
  /** Manifests that were put by their digest: no prune removes them. */
  readonly #byDigest = new Set<string>()
  /** Changes when a prune begins, and when it ends. */
  #prunes = 0
  #pruning = 0
  readonly #done: Record<string, number> = {}
  readonly #problems: string[] = []

  constructor(
    private readonly strata: StrataUnderTest,
    private readonly options: RegistryChurnOptions,
  ) {
    this.#images = madeImages(new Random(options.seed))
  }

  async run(): Promise<RegistryChurned> {
    const end = performance.now() + this.options.minutes * 60_000
    const acts: readonly (readonly [weight: number, act: (client: Client) => Promise<void>])[] = [
      [10, (client) => this.#push(client)],
      [8, (client) => this.#pull(client)],
      [3, (client) => this.#pullTag(client)],
      [2, (client) => this.#deleteTag(client)],
      [5, (client) => this.#deleteManifest(client)],
      [1, (client) => this.#deleteBlob(client)],
      [1, (client) => this.#leave(client)],
      [1, (client) => this.#list(client)],
      [1, (client) => this.#collect(client, false)],
      [1, (client) => this.#collect(client, true)],
    ]
    const bag = acts.flatMap(([weight, act]) => Array.from({ length: weight }, () => act))
    const live = async (_: unknown, at: number): Promise<void> => {
      const client = { random: new Random(this.options.seed * CLIENTS + at + 1) }
      while (performance.now() < end && this.#problems.length === 0) {
        try {
          await client.random.of(bag)(client)
        } catch (error) {
          this.#problems.push(
            `a client failed: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
          )
        }
        await delay(client.random.number(2 * PACE_MS))
      }
    }
    await Promise.all(Array.from({ length: CLIENTS }, live))
    return { done: this.#done, problems: this.#problems }
  }

  /** When all clients have gone, and all that they began has expired. */
  async finish(): Promise<readonly string[]> {
    const store = await this.strata.store()
    const leases = new Leases(store)
    const { expiryMs, holdMs } = this.options
    await until(
      async () => (await leases.liveIds()).size === 0,
      'all uploads and holds have expired',
      (10 * Math.max(expiryMs, holdMs)) / 1000 + 60,
      500,
    )
    await this.#collect({ random: new Random(0) }, false)
    const reachable = new Set<Digest>()
    const look = async (repository: string): Promise<void> => {
      for (const image of this.#images) {
        for (const gateway of this.options.gateways) await this.#check(repository, image, gateway)
        const path = `/v2/${repository}/manifests/${image.manifest.digest}`
        if ((await this.#ask('HEAD', path)).status !== 200) continue
        for (const { digest } of [image.manifest, ...image.blobs]) reachable.add(digest)
      }
    }
    await Promise.all(REPOSITORIES.map(look))
    const named = new Set<string>()
    for await (const { digest, record } of new BlobStore(store).list()) {
      for (const { data } of piecesOf(record)) named.add(data)
      if (!reachable.has(digest)) this.#problems.push(`blob ${digest} is kept, and no manifest needs it`)
    }
    for await (const { key } of listAll(store, PREFIX.data))
      if (!named.has(key)) this.#problems.push(`object ${key} belongs to no blob`)
    return this.#problems
  }

  async #push({ random }: Client): Promise<void> {
    const repository = random.of(REPOSITORIES)
    const image = random.of(this.#images)
    for (const child of image.children) if (!(await this.#pushOne(random, repository, child, []))) return
    const tag = random.of(TAGS)
    await this.#pushOne(random, repository, image, random.once(4) ? [] : [tag])
  }

  /** `false`: it was not pushed, and nobody did wrong. */
  async #pushOne(random: Random, repository: string, image: PushedImage, tags: readonly string[]): Promise<boolean> {
    for (const part of image.blobs) if (!(await this.#pushBlob(random, repository, part))) return false
    const { digest, mediaType, bytes } = image.manifest
    const before = image.blobs.map((part) => this.#blob(repository, part.digest).changes)
    const isByDigest = tags.length === 0 || random.once(2)
    const query = isByDigest && tags.length > 0 ? `?tag=${tags.join('&tag=')}` : ''
    const path = `/v2/${repository}/manifests/${isByDigest ? digest : tags[0]!}${query}`
    const name = `${repository} ${digest}`
    const prunes = this.#prunes
    let status = 0
    const put = async (): Promise<Outcome<'there'>> => {
      const answer = await this.#ask('PUT', path, {
        random,
        bytes,
        headers: { 'content-type': mediaType },
      })
      ;({ status } = answer)
      if (status === 201) {
        if (isByDigest) this.#byDigest.add(name)
        // What loses its tag while a prune is under way may go with it.
        const isSafe = this.#byDigest.has(name) || (this.#pruning === 0 && this.#prunes === prunes)
        return isSafe ? { is: 'there' } : 'unknown'
      }
      if (status === 400 && codeOf(answer) === 'MANIFEST_BLOB_UNKNOWN') {
        const broken = image.blobs.filter((part, at) => this.#isPromised(repository, part, before[at]!))
        if (broken.length === image.blobs.length)
          this.#wrong(`${path}: a blob is gone that was promised: ${answer.bytes.toString()}`)
      } else this.#wrong(`PUT ${path}: ${status} ${answer.bytes.toString()}`)
      return 'as it was'
    }
    const cell = this.#manifest(repository, digest)
    if (tags.length === 0) await cell.change(put)
    else
      await this.#tag(repository, tags[0]!).change(async () => {
        await cell.change(put)
        if (status !== 201) return 'as it was'
        // Somebody may have deleted the manifest with its tags meanwhile.
        return cell.value === 'there' ? { is: digest } : 'unknown'
      })
    this.#count(status === 201 ? 'manifests put' : 'manifests refused')
    return status === 201
  }

  /** Whether the repository must have a blob that a client was told of. */
  #isPromised(repository: string, { digest }: Part, changes: number): boolean {
    const blob = this.#blob(repository, digest)
    const toldAt = this.#told.get(`${repository} ${digest}`)
    return (
      blob.value === 'as pushed' &&
      blob.changes === changes &&
      toldAt !== undefined &&
      performance.now() - toldAt < this.options.holdMs * RELIED_ON
    )
  }

  async #pushBlob(random: Random, repository: string, part: Part): Promise<boolean> {
    const { digest } = part
    const since = performance.now()
    const isThere = async (): Promise<boolean> => {
      const path = `/v2/${repository}/blobs/${digest}`
      const head = await this.#ask('HEAD', path, { random })
      this.#expect(head, [200, 404], `HEAD ${path}`)
      this.#count('blobs found')
      return head.status === 200
    }
    if (!(random.once(2) && (await isThere()))) {
      const outcome = await this.#blob(repository, digest).change(async () =>
        (await this.#bringBlob(random, repository, part)) ? { is: 'as pushed' } : 'as it was',
      )
      if (outcome === 'as it was') return false
      this.#count('blobs pushed')
    }
    this.#told.set(`${repository} ${digest}`, since)
    return true
  }

  /** `false`: the upload had expired, because this machine was slow. */
  async #bringBlob(random: Random, repository: string, { digest, bytes }: Part): Promise<boolean> {
    const uploads = `/v2/${repository}/blobs/uploads/`
    if (random.once(4)) {
      const from = random.once(2) ? `&from=${random.of(REPOSITORIES)}` : ''
      const answer = await this.#ask('POST', `${uploads}?mount=${digest}${from}`, { random })
      this.#expect(answer, [201, 202], 'a mount')
      if (answer.status === 201) {
        this.#count('blobs mounted')
        return true
      }
      return this.#send(random, String(answer.headers.location), digest, bytes)
    }
    if (random.once(4)) {
      const answer = await this.#ask('POST', `${uploads}?digest=${digest}`, { random, bytes })
      this.#expect(answer, [201], 'a blob in one request')
      return answer.status === 201
    }
    const begun = await this.#ask('POST', uploads, { random })
    this.#expect(begun, [202], 'a begun upload')
    return this.#send(random, String(begun.headers.location), digest, bytes)
  }

  /** Sends a blob to its upload: in chunks, some of which break off or come twice. */
  async #send(random: Random, location: string, digest: Digest, bytes: Buffer): Promise<boolean> {
    let usedAt = performance.now()
    /**
     * Behind a chunk that broke off: the gateway may still record what came of it, or have the
     * upload for it.
     */
    let isUnsure = false
    const isRefused = (answer: Answer): boolean =>
      isUnsure && (answer.status === 416 || (answer.status === 400 && codeOf(answer) === 'BLOB_UPLOAD_INVALID'))
    const isExpired = (answer: Answer, what: string, fine: readonly number[]): boolean => {
      if (answer.status === 404 && performance.now() - usedAt > this.options.expiryMs * RELIED_ON) {
        this.#count('uploads expired')
        return true
      }
      this.#expect(answer, fine, what)
      usedAt = performance.now()
      return answer.status === 404
    }
    let sent = 0
    // The status says the same of one byte as of none.
    while (random.number(3) > 0 && sent < bytes.length && bytes.length > FEW) {
      const end = Math.min(sent + FEW + random.number(bytes.length), bytes.length)
      const chunk = bytes.subarray(sent, end)
      const headers = { 'content-range': `${sent}-${end - 1}` }
      if (random.once(4)) {
        // The connection breaks: the client asks how far the upload is.
        const source = brokenOff(chunk, FEW * random.number(chunk.length / FEW))
        await this.#ask('PATCH', location, { random, source, headers }).catch(() => undefined)
        isUnsure = true
        this.#count('chunks broken off')
      } else if (random.once(5)) {
        const twice = await Promise.all(
          [0, 1].map(() => this.#ask('PATCH', location, { random, bytes: chunk, headers })),
        )
        for (const answer of twice) if (isExpired(answer, 'a chunk that comes twice', [202, 400, 416])) return false
        this.#count('chunks sent twice')
      } else {
        const answer = await this.#ask('PATCH', location, { random, bytes: chunk, headers })
        if (!isRefused(answer) && isExpired(answer, 'a chunk', [202])) return false
        this.#count('chunks')
      }
      const status = await this.#ask('GET', location, { random })
      if (isExpired(status, 'the status of an upload', [204])) return false
      if (endIn(status) > (isUnsure ? bytes.length : end))
        this.#wrong(`an upload of ${end} bytes is at ${endIn(status)}`)
      sent = endIn(status)
    }
    const finish = (as: Digest): Promise<Answer> =>
      this.#ask('PUT', `${location}?digest=${as}`, {
        random,
        ...(sent < bytes.length
          ? { bytes: bytes.subarray(sent), headers: { 'content-range': `${sent}-${bytes.length - 1}` } }
          : {}),
      })
    if (random.once(8)) {
      const wrong = await finish(digestOf(randomUUID()))
      if (!isRefused(wrong) && isExpired(wrong, 'a finish with a wrong digest', [400])) return false
    }
    for (;;) {
      const finished = await finish(digest)
      if (!isRefused(finished)) return !isExpired(finished, 'a finish', [201]) && finished.status === 201
      const status = await this.#ask('GET', location, { random })
      if (isExpired(status, 'the status of an upload', [204])) return false
      sent = endIn(status)
    }
  }

  /** Begins an upload, and goes away, or cancels it. */
  async #leave({ random }: Client): Promise<void> {
    const begun = await this.#ask('POST', `/v2/${random.of(REPOSITORIES)}/blobs/uploads/`, { random })
    this.#expect(begun, [202], 'a begun upload')
    const location = String(begun.headers.location)
    const { bytes } = random.of(this.#images).manifest
    await this.#ask('PATCH', location, { random, bytes })
    if (random.once(2)) {
      this.#expect(await this.#ask('DELETE', location, { random }), [204], 'a cancellation')
      this.#count('uploads cancelled')
    } else this.#count('uploads left')
  }

  async #pull({ random }: Client): Promise<void> {
    await this.#check(random.of(REPOSITORIES), random.of(this.#images), random.of(this.options.gateways))
  }

  /** Pulls a manifest with its blobs, if it is certain that it is there. */
  async #check(repository: string, { manifest, blobs }: PushedImage, socket: string): Promise<void> {
    const cell = this.#manifest(repository, manifest.digest)
    const seen = { value: cell.value, changes: cell.changes }
    const path = `/v2/${repository}/manifests/${manifest.digest}`
    const answer = await this.#ask('GET', path, { socket })
    this.#expect(answer, [200, 404], `GET ${path}`)
    if (answer.status === 200 && !answer.bytes.equals(manifest.bytes)) this.#wrong(`${path} has other bytes`)
    const isSure = (): boolean => cell.changes === seen.changes
    if (seen.value === 'there' && answer.status !== 200 && isSure()) this.#wrong(`${path} is gone: nobody deleted it`)
    if (seen.value === 'absent' && answer.status === 200 && isSure()) this.#wrong(`${path} is there: it was deleted`)
    if (answer.status !== 200) return
    for (const part of blobs) {
      const blob = this.#blob(repository, part.digest)
      const before = { value: blob.value, changes: blob.changes }
      const of = `/v2/${repository}/blobs/${part.digest}`
      const got = await this.#ask('GET', of, { socket })
      this.#expect(got, [200, 404], `GET ${of}`)
      if (got.status === 200 && !got.bytes.equals(part.bytes)) this.#wrong(`${of} has other bytes`)
      const isLost = got.status !== 200 && before.value === 'as pushed' && blob.changes === before.changes
      if (isLost && seen.value === 'there' && isSure()) this.#wrong(`${of} is gone, and ${path} needs it`)
    }
    this.#count('pulls')
  }

  async #pullTag({ random }: Client): Promise<void> {
    const [repository, tag] = [random.of(REPOSITORIES), random.of(TAGS)]
    const cell = this.#tag(repository, tag)
    const { value, changes } = cell
    const path = `/v2/${repository}/manifests/${tag}`
    const answer = await this.#ask('GET', path, { random })
    this.#expect(answer, [200, 404], `GET ${path}`)
    const found = answer.status === 200 ? digestOf(answer.bytes) : 'absent'
    if (value !== undefined && cell.changes === changes && found !== value)
      this.#wrong(`${path} is ${found}, and should be ${value}`)
    this.#count('pulls by tag')
  }

  async #deleteTag({ random }: Client): Promise<void> {
    const [repository, tag] = [random.of(REPOSITORIES), random.of(TAGS)]
    await this.#tag(repository, tag).change(async () => {
      const answer = await this.#ask('DELETE', `/v2/${repository}/manifests/${tag}`, { random })
      this.#expect(answer, [202, 404], 'the delete of a tag')
      return { is: 'absent' }
    })
    this.#count('tags deleted')
  }

  async #deleteManifest({ random }: Client): Promise<void> {
    const repository = random.of(REPOSITORIES)
    // What is there, most of the time: or there would be more and more.
    const there = this.#images.filter(({ manifest }) => this.#manifest(repository, manifest.digest).value === 'there')
    const image = random.of(there.length > 0 ? there : this.#images)
    const { digest } = image.manifest
    // All tags that may be of it go with it.
    const tags = TAGS.map((tag) => this.#tag(repository, tag))
    const others = image.children.map(({ manifest }) => this.#manifest(repository, manifest.digest))
    const remove = async (): Promise<Outcome<'absent'>> => {
      const answer = await this.#ask('DELETE', `/v2/${repository}/manifests/${digest}`, { random })
      this.#expect(answer, [202, 404], 'the delete of a manifest')
      this.#count('manifests deleted')
      this.#byDigest.delete(`${repository} ${digest}`)
      return { is: 'absent' }
    }
    await withAll(
      [
        ...tags.filter(({ value }) => value === undefined || value === digest),
        // A child that has lost its own entry ends with its index.
        ...others,
      ],
      async () => {
        await this.#manifest(repository, digest).change(remove)
      },
    )
  }

  async #deleteBlob({ random }: Client): Promise<void> {
    const repository = random.of(REPOSITORIES)
    const { blobs } = random.of(this.#images)
    if (blobs.length === 0) return
    const { digest } = random.of(blobs)
    await this.#blob(repository, digest).change(async () => {
      const answer = await this.#ask('DELETE', `/v2/${repository}/blobs/${digest}`, { random })
      this.#expect(answer, [202, 404], 'the delete of a blob')
      return { is: 'deleted' }
    })
    this.#count('blobs deleted')
  }

  async #list({ random }: Client): Promise<void> {
    const repository = random.of(REPOSITORIES)
    const { digest } = random.of(this.#images).manifest
    for (const path of [`${repository}/tags/list?n=3`, '_catalog', `${repository}/referrers/${digest}`])
      this.#expect(await this.#ask('GET', `/v2/${path}`, { random }), [200, 404], path)
    this.#count('lists')
  }

  async #collect({ random }: Client, untagged: boolean): Promise<void> {
    const collect = async (): Promise<void> => {
      const answer = await this.strata.request(
        'POST',
        '/v1/gc',
        { untagged },
        { socket: random.of(this.options.gateways) },
      )
      this.#expect(answer, [200], 'a collection')
      const { unreadable = [] } = answer.json<{ unreadable?: unknown[] }>()
      if (unreadable.length > 0) this.#wrong(`a collection cannot read ${JSON.stringify(unreadable)}`)
    }
    if (!untagged) await collect()
    else {
      this.#prunes++
      this.#pruning++
      const removable = [...this.#manifests].filter(([name]) => !this.#byDigest.has(name)).map(([, cell]) => cell)
      await withAll(removable, collect)
      this.#prunes++
      this.#pruning--
    }
    this.#count(untagged ? 'prunes' : 'collections')
  }

  #manifest(repository: string, digest: Digest) {
    return cellOf(this.#manifests, `${repository} ${digest}`, () => new Certain<'there' | 'absent'>('absent'))
  }
  #tag(repository: string, tag: string) {
    return cellOf(this.#tags, `${repository} ${tag}`, () => new Certain<Digest | 'absent'>('absent'))
  }
  #blob(repository: string, digest: Digest) {
    return cellOf(this.#blobs, `${repository} ${digest}`, () => new Certain<'as pushed' | 'deleted'>('as pushed'))
  }

  async #ask(
    method: string,
    path: string,
    request: {
      readonly random?: Random
      readonly socket?: string
      readonly bytes?: Buffer
      readonly source?: Readable
      readonly headers?: Record<string, string>
    } = {},
  ): Promise<Answer> {
    const { random, socket, bytes, source, headers } = request
    return this.strata.request(method, path, source ?? (bytes && Readable.from([bytes])), {
      socket: socket ?? random?.of(this.options.gateways) ?? this.options.gateways[0]!,
      ...(bytes && !source ? { length: bytes.length } : {}),
      ...(headers ? { headers } : {}),
    })
  }

  #expect(answer: Answer, fine: readonly number[], what: string): void {
    if (!fine.includes(answer.status)) this.#wrong(`${what}: ${answer.status} ${answer.bytes.toString().slice(0, 500)}`)
  }

  #wrong(problem: string): void {
    this.#problems.push(problem)
  }

  #count(what: string): void {
    this.#done[what] = (this.#done[what] ?? 0) + 1
  }
}

function cellOf<T>(cells: Map<string, T>, name: string, make: () => T): T {
  const found = cells.get(name) ?? make()
  cells.set(name, found)
  return found
}

/** Work that may change any of these. */
async function withAll(cells: readonly Certain<unknown>[], work: () => Promise<void>): Promise<void> {
  const [first, ...others] = cells
  if (!first) return work()
  await first.change(async () => {
    await withAll(others, work)
    return 'unknown'
  })
}

/** Where an upload is, from the answer about it. */
function endIn({ headers }: Answer): number {
  const [, last = '0'] = String(headers.range).split('-')
  return Number(last) === 0 ? 0 : Number(last) + 1
}

/** A body that ends by an error after so many bytes. */
function brokenOff(bytes: Buffer, after: number): Readable {
  async function* some(): AsyncGenerator<Buffer> {
    yield bytes.subarray(0, after)
    await delay(1)
    throw new Error('the client has gone')
  }
  return Readable.from(some())
}

function codeOf(answer: Answer): string | undefined {
  return answer.json<{ errors?: { code: string }[] }>().errors?.[0]?.code
}
