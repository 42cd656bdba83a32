import { randomUUID } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { StrataError } from '@strata/base'
import { Images, Repositories, underLease } from '@strata/images'
import { digestOf, MEDIA, parseTagged } from '@strata/oci'
import { producerConnection, QueueClient, QUEUES, whenReady } from '@strata/queue'
import { TestRedis } from '@strata/queue/testing'
import { BlobStore, freshDataKey, keys, Leases, PREFIX, type LeaseKind, type ObjectStore } from '@strata/store'
import { temporaryStore } from '@strata/store/testing'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { storageConfigSchema } from './config.js'
import { Reaper } from './reaper.js'
import { StorageWorker } from './storage.module.js'

let redis: TestRedis
let queue: QueueClient
let folder: Awaited<ReturnType<typeof temporaryStore>>
beforeEach(async () => {
  redis = await TestRedis.start()
  queue = await QueueClient.forWork(redis.url)
  folder = await temporaryStore()
})
afterEach(async () => {
  await queue.close()
  await redis.remove()
  await folder.dispose()
})

/** The store, which its worker does not close. */
function keptOpen(store: ObjectStore): ObjectStore {
  return overriding(store, { close: () => Promise.resolve() })
}

function overriding(store: ObjectStore, own: Partial<ObjectStore>): ObjectStore {
  const get = (target: ObjectStore, name: string): unknown => {
    const value: unknown = Reflect.get(own, name) ?? Reflect.get(target, name)
    return typeof value === 'function' ? (value.bind(target) as unknown) : value
  }
  return new Proxy(store, { get: (target, name) => get(target, String(name)) })
}

/** The store, which stays open, with lists of blobs that are held until `go`. */
function holdingBlobs(store: ObjectStore) {
  const go = Promise.withResolvers<undefined>()
  let held = 0
  const list: ObjectStore['list'] = async (prefix, options) => {
    if (prefix === PREFIX.blobs) {
      held++
      await go.promise
    }
    return store.list(prefix, options)
  }
  return {
    store: overriding(store, { list, close: () => Promise.resolve() }),
    go: () => go.resolve(undefined),
    held: () => held,
  }
}

describe('an upload whose job is gone or over', () => {
  const result = { images: [] }
  let worker: StorageWorker
  let leases: Leases
  beforeEach(() => {
    leases = new Leases(folder.store)
  })
  /** Not before a test has arranged what is to be found: the sweeper looks every 100 ms. */
  const begin = async (): Promise<void> => {
    worker = new StorageWorker(
      keptOpen(folder.store),
      await QueueClient.forWork(redis.url),
      storageConfigSchema.parse({
        STRATA_REDIS: redis.url,
        STRATA_STORE: '/unused',
        STRATA_SWEEP_INTERVAL_MS: '100',
        STRATA_UPLOAD_SILENCE_MS: '100',
        STRATA_GC_INTERVAL: 'off',
      }),
    )
  }
  afterEach(() => worker.onApplicationShutdown())
  const isLive = async (id: string): Promise<boolean> => (await leases.ofRequest(id)) !== undefined
  /** Another id than that of the request. */
  const leaseOf = (id: string): string => `${id.slice(0, -12)}${id.slice(-6)}${id.slice(-12, -6)}`
  const job = (id: string) =>
    ({ name: 'load', queue: QUEUES.ingest, id, data: { root: id, upload: leaseOf(id), prepare: false } }) as const

  async function uploadIn(state: 'received' | 'committing' | 'named'): Promise<string> {
    const id = randomUUID()
    const run = await leases.create(leaseOf(id), {
      job: { kind: 'load', id },
      request: { prepare: false },
      state: state === 'named' ? 'committing' : state,
    })
    if (state === 'named') await leases.named(run, result)
    return id
  }
  /** An ingest whose every load fails, as the store is away. */
  function failsAll(): void {
    queue.serve({
      kind: 'ingest',
      queue: QUEUES.ingest,
      concurrency: 1,
      handlers: {
        load: () => Promise.reject(new StrataError('store_unavailable', 'away')),
        import: () => Promise.reject(new Error('no')),
      },
    })
  }

  it.each(['received', 'committing'] as const)('%s, and its job has failed: it is ended', async (state) => {
    const id = await uploadIn(state)
    await queue.journal.create(id, 'load', 'waiting')
    await queue.producer.add(job(id))
    failsAll()
    await begin()
    await expect.poll(() => isLive(id)).toBe(false)
    expect(await queue.journal.get(id)).toMatchObject({ state: 'failed', error: { code: 'store_unavailable' } })
  })

  it.each(['received', 'committing'] as const)(
    '%s, and its client was told that it failed: it is ended, and not queued again',
    async (state) => {
      const id = await uploadIn(state)
      await queue.journal.create(id, 'load', 'waiting')
      await queue.journal.fail(id, new StrataError('store_unavailable', 'away'))
      await begin()
      await expect.poll(() => isLive(id)).toBe(false)
      expect(await queue.producer.has(job(id))).toBe(false)
    },
  )

  it.each(['received', 'committing', 'named'] as const)(
    '%s, and Redis has lost all that it knew: it is queued again, and its record is there again',
    async (state) => {
      const id = await uploadIn(state)
      await begin()
      await expect.poll(() => queue.producer.has(job(id))).toBe(true)
      expect(await queue.journal.get(id)).toMatchObject({ kind: 'load', state: 'waiting' })
      expect(await isLive(id)).toBe(true)
    },
  )

  it.each(['receiving', 'received', 'committing', 'named'] as const)(
    'of a pull, %s, and Redis has lost all that it knew: it is queued again as it was asked for',
    async (state) => {
      const id = randomUUID()
      const asked = { reference: 'docker.io/library/a:1', prepare: true, insecure: false, platform: 'linux/arm64' }
      const own = { hasCredentials: true, uploads: { [digestOf('a layer')]: randomUUID() } }
      const run = await leases.create(leaseOf(id), {
        job: { kind: 'pull', id },
        request: { ...asked, ...own },
        state: state === 'named' ? 'committing' : state,
      })
      if (state === 'named') await leases.named(run, result)
      await begin()
      await expect.poll(() => queue.producer.has({ queue: QUEUES.pull, id })).toBe(true)
      const queued = await queue.producer.queue(QUEUES.pull).getJob(id)
      expect(queued?.data).toEqual({ root: id, upload: leaseOf(id), ...asked })
      expect(await queue.journal.get(id)).toMatchObject({ kind: 'pull', state: 'waiting' })
      expect(await isLive(id)).toBe(true)
    },
  )

  it('of a pull, and its client was told how it ended: it is ended', async () => {
    const id = randomUUID()
    const request = { reference: 'docker.io/library/a:1', prepare: true, insecure: false }
    await leases.create(leaseOf(id), { job: { kind: 'pull', id }, request })
    await queue.journal.create(id, 'pull', 'waiting')
    await queue.journal.fail(id, new StrataError('registry_unavailable', 'away'))
    await begin()
    await expect.poll(() => isLive(id)).toBe(false)
    expect(await queue.producer.has({ queue: QUEUES.pull, id })).toBe(false)
  })

  it('named, and its job has failed: its client is told the result', async () => {
    const id = await uploadIn('named')
    await queue.journal.create(id, 'load', 'waiting')
    // As where its workers died too often: nobody has said so in its own record.
    await queue.producer.add({ ...job(id), data: { ...job(id).data, root: randomUUID() } })
    failsAll()
    await begin()
    await expect.poll(() => isLive(id)).toBe(false)
    expect(await queue.journal.get(id)).toMatchObject({ state: 'completed', result })
  })

  it('goes on to be looked after when Redis has lost the schedule', async () => {
    await begin()
    await redis.kill()
    await rm(join(redis.folder, 'appendonlydir'), { recursive: true })
    await redis.start()
    const id = await uploadIn('received')
    await expect.poll(() => queue.producer.has(job(id))).toBe(true)
  })

  it('of a request that has neither upload nor job any more, the record ends', async () => {
    const id = randomUUID()
    await queue.journal.create(id, 'load', 'waiting')
    await queue.journal.update(id, { state: 'active' })
    await begin()
    await expect.poll(async () => (await queue.journal.get(id)).state).toBe('failed')
  })
})

it('many collections at once become two, and uploads whose owners died are ended meanwhile', async () => {
  const { store, go, held } = holdingBlobs(folder.store)
  const worker = new StorageWorker(
    store,
    await QueueClient.forWork(redis.url),
    storageConfigSchema.parse({
      STRATA_REDIS: redis.url,
      STRATA_STORE: '/unused',
      STRATA_SWEEP_INTERVAL_MS: '100',
      STRATA_UPLOAD_SILENCE_MS: '100',
      STRATA_GC_INTERVAL: 'off',
    }),
  )
  try {
    const collect = async (): Promise<string> => {
      const id = randomUUID()
      await queue.journal.create(id, 'collect', 'waiting')
      await queue.producer.add({
        name: 'collect',
        queue: QUEUES.collect,
        id,
        data: { root: id, dryRun: false, untagged: false, absentContainers: [] },
      })
      return id
    }
    const stateOf = async (id: string): Promise<string> => (await queue.journal.get(id)).state
    const collections = [await collect()]
    await expect.poll(held).toBe(1)
    for (let n = 0; n < 40; n++) collections.push(await collect())
    await expect.poll(async () => new Set(await Promise.all(collections.map(stateOf)))).toEqual(new Set(['active']))

    const upload = randomUUID()
    await queue.journal.create(upload, 'load', 'receiving')
    await new Leases(folder.store).create(upload, { job: { kind: 'load', id: upload }, request: {} })
    await expect.poll(() => stateOf(upload)).toBe('failed')
    expect(held()).toBe(1)

    go()
    await expect.poll(async () => new Set(await Promise.all(collections.map(stateOf)))).toEqual(new Set(['completed']))
    const lists = held()
    const last = await collect()
    await expect.poll(() => stateOf(last)).toBe('completed')
    expect(lists).toBe(2 * (held() - lists))
  } finally {
    go()
    await worker.onApplicationShutdown()
  }
})

it('a collection on a full disk that finds a mark of a dead process does the rest, and asks the nodes', async () => {
  await new Images(folder.store).markNames()
  const { repository, tag } = parseTagged('never:1')
  const mark = keys.nameMark(digestOf('never'), { repository, tag: tag!, digest: undefined }, 'dead')
  await folder.store.create(mark, Buffer.from('{}'))
  const unused = freshDataKey('ended')
  await folder.store.put(unused, Buffer.from('bytes'))
  let refused = 0
  const full = () => {
    refused++
    return Promise.reject(new StrataError('storage_full', 'no room'))
  }
  const worker = new StorageWorker(
    keptOpen(overriding(folder.store, { create: full, replace: full, put: full })),
    await QueueClient.forWork(redis.url),
    storageConfigSchema.parse({ STRATA_REDIS: redis.url, STRATA_STORE: '/unused', STRATA_GC_INTERVAL: 'off' }),
  )
  try {
    const id = randomUUID()
    await queue.journal.create(id, 'collect', 'waiting')
    const data = { root: id, dryRun: false, untagged: false, absentContainers: [] }
    await queue.producer.add({ name: 'collect', queue: QUEUES.collect, id, data })
    await expect.poll(async () => (await queue.journal.get(id)).state).toBe('completed')
    expect(refused).toBeGreaterThan(0)
    expect(await folder.store.stat(unused)).toBeUndefined()
    expect(await folder.store.stat(mark)).toBeDefined()
  } finally {
    await worker.onApplicationShutdown()
  }
})

describe('a prune of what has no tag', () => {
  let worker: StorageWorker
  let connection: ReturnType<typeof producerConnection>
  beforeEach(async () => {
    await new Images(folder.store).markNames()
    connection = producerConnection(redis.url)
    await whenReady(connection)
    // A node that has told of its containers: it has none.
    await connection.sadd('strata:nodes', 'n')
    worker = new StorageWorker(
      keptOpen(folder.store),
      await QueueClient.forWork(redis.url),
      storageConfigSchema.parse({ STRATA_REDIS: redis.url, STRATA_STORE: '/unused', STRATA_GC_INTERVAL: 'off' }),
    )
  })
  afterEach(async () => {
    connection.disconnect()
    await worker.onApplicationShutdown()
  })
  const pruned = async () => {
    const id = randomUUID()
    await queue.journal.create(id, 'collect', 'waiting')
    const data = { root: id, dryRun: false, untagged: true, absentContainers: [] }
    await queue.producer.add({ name: 'collect', queue: QUEUES.collect, id, data })
    const isOver = async () => ['completed', 'failed'].includes((await queue.journal.get(id)).state)
    await expect.poll(isOver, { timeout: 60_000 }).toBe(true)
    return queue.journal.get(id)
  }

  it(
    'leaves an index all children that it was not told of, however many go at once',
    { timeout: 120_000 },
    async () => {
      const { repository, tag } = parseTagged('team/app:all')
      // A process that puts a child, and dies before it tells the indexes.
      const list: ObjectStore['list'] = (prefix, options) =>
        prefix.startsWith(PREFIX.parentMarks) ? Promise.resolve({ objects: [] }) : folder.store.list(prefix, options)
      const dying = new Repositories(overriding(folder.store, { list }))
      const partOf = (text: string, mediaType: string) => {
        const bytes = Buffer.from(text)
        return { digest: digestOf(bytes), size: bytes.length, mediaType, bytes }
      }
      const described = ({ digest, size, mediaType }: ReturnType<typeof partOf>) => ({ digest, size, mediaType })
      const config = partOf('{}', 'application/vnd.oci.empty.v1+json')
      const children = Array.from({ length: 32 }, (_, i) => {
        const blob = partOf(`chart ${i}`, 'application/octet-stream')
        const body = { schemaVersion: 2, mediaType: MEDIA.manifest, artifactType: 'application/x-chart' }
        const manifest = { ...body, config: described(config), layers: [described(blob)] }
        return { blob, manifest: partOf(JSON.stringify(manifest), MEDIA.manifest) }
      })
      const manifests = children.map(({ manifest }) => described(manifest))
      const index = partOf(JSON.stringify({ schemaVersion: 2, mediaType: MEDIA.index, manifests }), MEDIA.index)
      await underLease(new Leases(folder.store), async (run) => {
        await dying.tags.put(repository, tag!, index, run)
        for (const { manifest, blob } of children) {
          for (const { digest, bytes } of [config, blob])
            await new BlobStore(folder.store).add(digest, bytes, run.lease)
          await dying.blobs.add(repository, [config.digest, blob.digest], run.lease)
          await dying.manifests.put(repository, manifest.digest, manifest.bytes, MEDIA.manifest, run, 'tag')
        }
      })
      expect(await new Images(folder.store).all.untaggedManifests()).toHaveLength(children.length)
      expect(await pruned()).toMatchObject({ state: 'completed' })
      expect(await new Images(folder.store).all.untaggedManifests()).toEqual([])
      const repositories = new Repositories(folder.store)
      for (const { manifest, blob } of children) {
        expect(await repositories.manifests.get(repository, manifest.digest)).toMatchObject({ bytes: manifest.bytes })
        expect(await new BlobStore(folder.store).read(blob.digest, 100)).toEqual(blob.bytes)
      }
    },
  )

  it('is refused in a sentence while a container is listed in a form that is not understood', async () => {
    await connection.hset('strata:containers:n', 'c0ffee', JSON.stringify({ id: 'c0ffee', image: { id: 'newer' } }))
    expect(await pruned()).toMatchObject({
      state: 'failed',
      error: { code: 'node_unavailable', message: expect.stringContaining('the container c0ffee is not') as string },
    })
  })
})

it('a node is not forgotten without force while one of its containers is not understood', async () => {
  const connection = producerConnection(redis.url)
  await whenReady(connection)
  await connection.sadd('strata:nodes', 'n')
  await connection.hset('strata:containers:n', 'c0ffee', JSON.stringify({ id: 'c0ffee', status: 'newer' }))
  const worker = new StorageWorker(
    keptOpen(folder.store),
    await QueueClient.forWork(redis.url),
    storageConfigSchema.parse({ STRATA_REDIS: redis.url, STRATA_STORE: '/unused', STRATA_GC_INTERVAL: 'off' }),
  )
  try {
    const id = randomUUID()
    const data = { node: 'n', force: false, by: id }
    const job = { name: 'forget-node', queue: QUEUES.storage, id, data } as const
    await queue.producer.add(job)
    await expect(queue.producer.result(job, AbortSignal.timeout(30_000))).rejects.toMatchObject({
      code: 'node_in_use',
      message: expect.stringContaining('(one that is not understood)') as string,
    })
  } finally {
    connection.disconnect()
    await worker.onApplicationShutdown()
  }
})

describe('the reaper', () => {
  const SILENCE_MS = 100
  let leases: Leases
  beforeEach(() => {
    leases = new Leases(folder.store)
  })
  const reaper = (expiryMs: number, holdMs = HOUR) =>
    new Reaper(leases, new BlobStore(folder.store), queue.journal, queue.producer, queue.nodes, {
      silenceMs: SILENCE_MS,
      expiryMs,
      holdMs,
    })
  /** A lease with bytes that are no blob yet. */
  async function lease(kind: LeaseKind): Promise<{ id: string; request: string; data: string }> {
    const [id, request] = [randomUUID(), randomUUID()]
    await leases.create(id, { job: { kind, id: request }, request: {} })
    const data = freshDataKey(id)
    await folder.store.put(data, Buffer.from('bytes'))
    return { id, request, data }
  }
  const isLive = async (id: string): Promise<boolean> => (await leases.get(id)) !== undefined
  const hasBytes = async (data: string): Promise<boolean> => (await folder.store.stat(data)) !== undefined
  const HOUR = 3_600_000

  it.each(['load', 'import', 'tag'] as const)(
    'ends a lease of the kind %s whose owner is silent, with its bytes, but not a push at rest',
    async (kind) => {
      const [silent, push, newer] = [await lease(kind), await lease('push'), await lease('tag')]
      await folder.store.delete([keys.lease(newer.id)])
      const record = { rev: 'r', value: { state: 'receiving', job: { kind: 'mirror', id: newer.id }, request: {} } }
      await folder.store.create(keys.lease(newer.id), Buffer.from(JSON.stringify(record)))
      const it = reaper(HOUR)
      await expect.poll(async () => (await it.reap(), isLive(silent.id))).toBe(false)
      expect(await hasBytes(silent.data)).toBe(false)
      for (const { id, data } of [push, newer]) expect([await isLive(id), await hasBytes(data)]).toEqual([true, true])
    },
  )

  it('reads the record of each blob once for all that a sweep ends, and tells every client', async () => {
    const ended = await Promise.all(Array.from({ length: 10 }, () => lease('tag')))
    const told = await lease('load')
    await queue.journal.create(told.request, 'load', 'receiving')
    const uploads = new Leases(folder.store)
    const run = await uploads.create('kept', { job: { kind: 'push', id: 'kept' }, request: {} })
    const digests = ['one', 'two', 'three'].map((text) => ({ digest: digestOf(text), bytes: Buffer.from(text) }))
    for (const { digest, bytes } of digests) await new BlobStore(folder.store).add(digest, bytes, run.lease)
    let reads = 0
    const read: ObjectStore['read'] = async (key, maxBytes) => {
      if (key.startsWith(PREFIX.blobs)) reads++
      return folder.store.read(key, maxBytes)
    }
    const blobs = new BlobStore(overriding(folder.store, { read }))
    const it = new Reaper(leases, blobs, queue.journal, queue.producer, queue.nodes, {
      silenceMs: SILENCE_MS,
      expiryMs: HOUR,
      holdMs: HOUR,
    })
    await expect
      .poll(async () => {
        reads = 0
        return (await it.reap()).ended.length
      })
      .toBe(ended.length + 1)
    expect(reads).toBe(digests.length)
    for (const { data } of [...ended, told]) expect(await hasBytes(data)).toBe(false)
    const { request } = told
    expect(await queue.journal.get(request)).toMatchObject({ state: 'failed', error: { code: 'upload_interrupted' } })
    for (const { digest, bytes } of digests) expect(await new BlobStore(folder.store).read(digest, 10)).toEqual(bytes)
  })

  it('reads the leases that have changed, and no others', async () => {
    const [, changed] = [await lease('push'), await lease('push')]
    const reads: string[] = []
    const read: ObjectStore['read'] = async (key, maxBytes) => {
      if (key.startsWith(PREFIX.leases)) reads.push(key)
      return folder.store.read(key, maxBytes)
    }
    leases = new Leases(overriding(folder.store, { read }))
    const it = reaper(HOUR)
    await it.reap()
    reads.length = 0
    await it.reap()
    expect(reads).toEqual([])
    await new Leases(folder.store).begin(changed.id)
    await it.reap()
    expect(reads).toEqual([keys.lease(changed.id)])
  })

  it('ends what is left of a request whose lease was ended by a dead process, and tells its client', async () => {
    const { id, request, data } = await lease('load')
    await queue.journal.create(request, 'load', 'receiving')
    await leases.end(id)
    const it = reaper(HOUR)
    await expect.poll(async () => (await it.reap(), (await queue.journal.get(request)).state)).toBe('failed')
    expect(await hasBytes(data)).toBe(false)
  })

  it('does not end a request with a lease that came second, and whose gateway died before it ended that', async () => {
    const { id, request } = await lease('push')
    await queue.journal.create(request, 'load', 'receiving')
    const second = await leases.create('second', { job: { kind: 'load', id: randomUUID() }, request: {} })
    await leases.update(second, (record) => ({ ...record, job: { kind: 'load', id: request } }))
    const it = reaper(HOUR)
    await expect.poll(async () => (await it.reap(), isLive('second'))).toBe(false)
    await it.reap()
    expect([await isLive(id), (await queue.journal.get(request)).state]).toEqual([true, 'receiving'])
  })

  it.each([
    ['push', 'hold'],
    ['hold', 'push'],
  ] as const)(
    'ends a %s that has expired, and deletes its bytes; one that is renewed stays, and so does a %s',
    async (kind, other) => {
      const [left, stays, longer] = [await lease(kind), await lease(kind), await lease(other)]
      const it = kind === 'push' ? reaper(5 * SILENCE_MS) : reaper(HOUR, 5 * SILENCE_MS)
      await expect
        .poll(async () => {
          await leases.begin(stays.id)
          await it.reap()
          return isLive(left.id)
        })
        .toBe(false)
      expect(await hasBytes(left.data)).toBe(false)
      for (const { id, data } of [stays, longer]) expect([await isLive(id), await hasBytes(data)]).toEqual([true, true])
    },
  )
})
