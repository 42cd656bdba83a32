import { randomUUID } from 'node:crypto'
import { QueueClient, QUEUES } from '@strata/queue'
import { TestRedis } from '@strata/queue/testing'
import { PREFIX, Uploads, type ObjectStore } from '@strata/store'
import { temporaryStore } from '@strata/store/testing'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { storageConfigSchema } from './config.js'
import { StorageWorker } from './storage.module.js'

let redis: TestRedis
let queue: QueueClient
let folder: Awaited<ReturnType<typeof temporaryStore>>
beforeEach(async () => {
  redis = await TestRedis.start()
  queue = QueueClient.forWork(redis.url)
  folder = await temporaryStore()
})
afterEach(async () => {
  await queue.close()
  await redis.remove()
  await folder.dispose()
})

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
  const own: Partial<ObjectStore> = { list, close: () => Promise.resolve() }
  const get = (target: ObjectStore, name: string): unknown => {
    const value: unknown = Reflect.get(own, name) ?? Reflect.get(target, name)
    return typeof value === 'function' ? (value.bind(target) as unknown) : value
  }
  return { store: new Proxy(store, { get: (target, name) => get(target, String(name)) }), go: () => go.resolve(undefined), held: () => held }
}

it('many collections at once become two, and uploads whose owners died are ended meanwhile', async () => {
  const { store, go, held } = holdingBlobs(folder.store)
  const worker = new StorageWorker(store, storageConfigSchema.parse({ STRATA_REDIS: redis.url, STRATA_STORE: '/unused', STRATA_SWEEP_INTERVAL_MS: '100', STRATA_UPLOAD_SILENCE_MS: '100', STRATA_GC_INTERVAL: 'off' }))
  try {
    const collect = async (): Promise<string> => {
      const id = randomUUID()
      await queue.journal.create(id, 'collect', 'waiting')
      await queue.producer.add({ name: 'collect', queue: QUEUES.collect, id, data: { root: id, dryRun: false, untagged: false, absentContainers: [] } })
      return id
    }
    const stateOf = async (id: string): Promise<string> => (await queue.journal.get(id)).state
    const collections = [await collect()]
    await expect.poll(held).toBe(1)
    for (let n = 0; n < 40; n++) collections.push(await collect())
    await expect.poll(async () => new Set(await Promise.all(collections.map(stateOf)))).toEqual(new Set(['active']))

    const upload = randomUUID()
    await queue.journal.create(upload, 'load', 'receiving')
    await new Uploads(folder.store).create(upload, { job: { kind: 'load', id: upload }, request: {} })
    await expect.poll(() => stateOf(upload), { timeout: 10_000 }).toBe('failed')
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
