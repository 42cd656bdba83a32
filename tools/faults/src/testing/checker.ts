import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import type { ContainerView, ImageView, JobView } from '@strata/api'
import type { StrataUnderTest, TestNode } from '@strata/e2e/testing'
import { mountTable } from '@strata/linux'
import { digestFromHex, parseDigest, type Digest } from '@strata/oci'
import { BlobStore, digestInKey, listAll, piecesOf, PREFIX, Leases, type BlobRecord } from '@strata/store'
import type { TestStore } from './stores.js'

/**
 * Looks from outside (API, store, the node's disk, the kernel) for what must not be: something
 * listed that is not whole, something that belongs to nothing. It knows nothing of what the
 * services think.
 */
export class Checker {
  readonly #blobs: BlobStore
  readonly #leases: Leases
  /** Names of containers that were created and are not started. */
  readonly created = new Set<string>()
  /** Bytes below `data/` never change, so each object is hashed once. */
  readonly #hashed = new Map<string, Digest>()

  constructor(
    private readonly strata: StrataUnderTest,
    private readonly store: TestStore,
  ) {
    this.#blobs = new BlobStore(store.objects)
    this.#leases = new Leases(store.objects)
  }

  /**
   * A line for each thing that is wrong; none when nothing is under way and all is well. While
   * something is under way, only that: it may be right to have the rest.
   */
  async problems(): Promise<string[]> {
    const { jobs } = await this.#api<{ jobs: JobView[] }>('/v1/jobs?limit=1000')
    const underWay = jobs.filter(({ state }) => ['receiving', 'waiting', 'active'].includes(state))
    if (underWay.length > 0)
      return underWay.map(({ id, kind, state, step }) => `job ${id} (${kind}) is ${state}: ${step}`)
    const endsOf = (id: string): string =>
      jobs
        .filter(({ container }) => container === id)
        .map(({ kind, state, createdAt, updatedAt, error }) =>
          [kind, state, createdAt, updatedAt, error?.code, error?.message].join(' '),
        )
        .join('; ')
    const records = new Map<Digest, BlobRecord>()
    for await (const { digest, record } of this.#blobs.list()) records.set(digest, record)
    const containers = (await this.#api<{ containers: ContainerView[] }>('/v1/containers?all&limit=1000')).containers
    // At once: how long a look takes counts as time until all is right.
    const found = await Promise.all([
      this.#images(records),
      this.#blobsWithoutBytes(records),
      this.#leftInStore(records),
    ])
    return [
      ...found.flat(),
      ...containers
        .filter(({ state, name }) => state === 'created' && !this.created.has(name))
        .map(({ id }) => `container ${id} never came to run: ${endsOf(id)}`),
      ...this.strata.nodes.flatMap((node) =>
        leftOnNode(
          node,
          containers.filter((container) => container.node === node.id),
        ),
      ),
    ]
  }

  /**
   * Blobs, what was made of them, and on nodes layers and roots that no image needs: to be asked
   * after a collection.
   */
  async unreachable(): Promise<string[]> {
    const images = await this.strata.images()
    const layers = (await Promise.all(images.map(async ({ digest }) => (await this.#image(digest)).layers))).flat()
    const needed = new Set<string>([
      ...images.flatMap(({ id, digest }) => [id, digest]),
      ...layers.flatMap(({ digest, diffId, chainId }) => [digest, diffId, chainId]),
    ])
    const left: string[] = []
    for await (const { digest } of this.#blobs.list())
      if (!needed.has(digest)) left.push(`blob ${digest} is kept, and no image needs it`)
    for (const prefix of [PREFIX.indexes, PREFIX.checkpoints])
      for await (const { key } of listAll(this.store.objects, prefix))
        if (!needed.has(digestInKey(key) ?? '')) left.push(`${key} is kept, and no image needs it`)
    const onNode = this.strata.nodes
      .flatMap(({ folder }) => [join(folder, 'layers'), join(folder, 'snapshots', 'roots')])
      .flatMap((place) => foldersIn(place).map((name) => join(place, name)))
    return [
      ...left,
      ...onNode
        .filter((path) => /^[0-9a-f]{64}$/.test(basename(path)) && !needed.has(`sha256:${basename(path)}`))
        .map((path) => `${path} is kept, and no image needs it`),
    ]
  }

  /**
   * Every image that is listed is whole: each of its blobs is there, and its bytes are what its
   * digest says.
   */
  async #images(records: ReadonlyMap<Digest, BlobRecord>): Promise<string[]> {
    const images = await this.strata.images()
    const problems = await Promise.all(
      images.map(async ({ digest, names }) => {
        const name = names[0] ?? digest
        const image = await this.#image(digest)
        return Promise.all(
          [digest, image.id, ...image.layers.map((layer) => layer.digest)].map(parseDigest).map(async (blob) => {
            const record = records.get(blob)
            if (!record) return `image ${name} lacks blob ${blob}`
            return (await this.#digestOf(record)) === blob
              ? []
              : `image ${name}: the bytes of blob ${blob} are not its own`
          }),
        )
      }),
    )
    return problems.flat(2)
  }

  /** The blobs that an image should have and has not, also while much goes on. */
  async lacking(digest: Digest | string): Promise<string[]> {
    const image = await this.#image(digest)
    const lacking: string[] = []
    for (const blob of [image.digest, image.id, ...image.layers.map((layer) => layer.digest)].map(parseDigest)) {
      const record = await this.#blobs.stat(blob)
      if (!record || (await this.#blobs.storedBytes(record)) === undefined) lacking.push(blob)
    }
    return lacking
  }

  async #blobsWithoutBytes(records: ReadonlyMap<Digest, BlobRecord>): Promise<string[]> {
    const problems = await Promise.all(
      [...records].map(async ([digest, record]) => {
        const bytes = await this.#blobs.storedBytes(record)
        return bytes === record.size ? [] : `blob ${digest} has ${bytes ?? 'no'} bytes instead of ${record.size}`
      }),
    )
    return problems.flat()
  }

  async #leftInStore(records: ReadonlyMap<Digest, BlobRecord>): Promise<string[]> {
    const left: string[] = []
    for await (const { id, state } of this.#leases.listLive()) left.push(`upload ${id} is ${state}`)
    const used = new Set([...records.values()].flatMap(piecesOf).map(({ data }) => data))
    for await (const { key } of listAll(this.store.objects, PREFIX.data))
      if (!used.has(key)) left.push(`object ${key} belongs to no blob`)
    return [...left, ...(await this.store.unfinished())]
  }

  async #digestOf(record: BlobRecord): Promise<Digest | undefined> {
    const pieces = piecesOf(record)
    const key = pieces.map(({ data }) => data).join(' ')
    const known = this.#hashed.get(key)
    if (known) return known
    const hash = createHash('sha256')
    for (const { data } of pieces) {
      const object = await this.store.objects.get(data)
      if (!object) return undefined
      await pipeline(object.body, hash, { end: false })
    }
    const digest = digestFromHex(hash.digest('hex'))
    this.#hashed.set(key, digest)
    return digest
  }

  #image(ref: string): Promise<ImageView> {
    return this.#api<ImageView>(`/v1/images/${encodeURIComponent(ref)}`)
  }

  async #api<T>(path: string): Promise<T> {
    const answer = await this.strata.request('GET', path)
    if (answer.status !== 200) throw new Error(`GET ${path}: ${answer.status} ${answer.bytes.toString()}`)
    return answer.json<T>()
  }
}

/**
 * What of containers is on a node, its disk and in its kernel, and belongs to none that is listed;
 * what runs must be of one that is said to be running.
 */
function leftOnNode({ id, folder, run }: TestNode, containers: readonly ContainerView[]): string[] {
  const all = new Set(containers.map((container) => container.id))
  const running = new Set(containers.filter(({ state }) => state === 'running').map((container) => container.id))
  const none = new Set<string>()
  const places: [string, ReadonlySet<string>][] = [
    [join(folder, 'containers'), all],
    [join(folder, 'snapshots', 'snapshots'), all],
    [join(folder, 'roots'), all],
    [join(folder, 'snapshots', 'tmp'), none],
    [join(folder, 'layers', 'tmp'), none],
    [join(run, 'bundles'), running],
    [join(run, 'runc'), running],
  ]
  const mounts = mountTable()
  return [
    ...places.flatMap(([place, fine]) =>
      foldersIn(place)
        .filter((name) => name !== 'removed' && !fine.has(name))
        .map((name) => `left: ${join(place, name)}`),
    ),
    ...mounts
      .filter(({ mountPoint }) => mountPoint.startsWith(join(folder, 'roots/')))
      .map(({ mountPoint }) => mountPoint)
      .filter((path) => !running.has(path.slice(-64)))
      .map((path) => `mounted: ${path}`),
    ...mounts
      .filter(({ fsType }) => fsType.startsWith('cgroup'))
      .flatMap(({ mountPoint }) =>
        foldersIn(join(mountPoint, `strata-${id}`))
          .filter((name) => /^[0-9a-f]{64}$/.test(name) && !running.has(name))
          .map((name) => `cgroup: ${name}`),
      ),
    ...processesNaming(run)
      .filter((line) => ![...running].some((one) => line.includes(one)))
      .map((line) => `process: ${line}`),
  ]
}

/** Monitors and runtimes of the node, by their command lines, which name its run folder. */
function processesNaming(run: string): string[] {
  return foldersIn('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        const command = readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\0', ' ')
        return command.includes(`${run}/`) ? [`${pid} ${command.slice(0, 300)}`] : []
      } catch {
        return []
      }
    })
}

function foldersIn(folder: string): string[] {
  try {
    return readdirSync(folder, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => name)
  } catch {
    return []
  }
}
