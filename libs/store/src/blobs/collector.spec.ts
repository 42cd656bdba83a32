import { hash, randomUUID } from 'node:crypto'
import { Readable } from 'node:stream'
import { digestFromHex, digestOf, type Digest, type Repository } from '@strata/oci'
import { expect, it } from 'vitest'
import { BlobStore } from './blobs.js'
import { Collector } from './collector.js'
import type { Told } from './unreadable.js'
import { keys, numberedDataKey } from '../keys.js'
import { Leases } from '../leases/leases.js'
import type { Etag, ObjectStore } from '../objects/object-store.js'
import { collectorSuite } from '../testing/collector-suite.js'
import { counted } from '../testing/counted-store.js'
import { bytesInUse } from '../testing/memory.js'
import { temporaryStore, withoutAbilities } from '../testing/temporary-store.js'

const REPOSITORY = 'docker.io/library/app' as Repository
const none = () => Promise.resolve([])

collectorSuite('a folder', async () => ({ ...(await temporaryStore()), leftovers: none }))

collectorSuite('a store with the verbs alone', async () => {
  const { store, dispose } = await temporaryStore()
  return { store: withoutAbilities(store), dispose, leftovers: none }
})

it('lists a blob that is needed twice, and its bytes once, and reads its record once', async () => {
  const { store: folder, dispose } = await temporaryStore()
  const { store, calls } = counted(folder)
  try {
    const contents = Array.from({ length: 20 }, (_, n) => Buffer.from(`blob ${n}`))
    const digests = contents.map((bytes) => digestOf(bytes))
    const cost = async () => {
      calls()
      await new Collector(store).collect({
        dryRun: false,
        references: async function* () {
          await Promise.resolve()
          yield* digests
        },
      })
      const { listed = 0, read = 0 } = calls()
      return { listed, read }
    }
    const empty = await cost()
    const leases = new Leases(store)
    const run = await leases.create('u', { job: { kind: 'push', id: 'u' }, request: {} })
    for (const [at, bytes] of contents.entries()) await new BlobStore(store).add(digests[at]!, bytes, 'u')
    await leases.endBy(run, 'done')
    // The first one takes the ended holder away.
    await cost()
    const full = await cost()
    const many = contents.length
    expect(full).toEqual({ listed: empty.listed + 3 * many, read: empty.read + many })
  } finally {
    await dispose()
  }
})

it('holds less than 500 bytes for each blob, its bytes and its key of a repository', async () => {
  const { store: folder, dispose } = await temporaryStore()
  const count = 10_000
  try {
    const store = withObjects(folder, objectsOfBlobs(count))
    const before = bytesInUse()
    let held = 0
    const { report } = await new Collector(store).collect({
      dryRun: true,
      references: async function* ({ had }) {
        for await (const { digest } of new BlobStore(store).list()) {
          had(REPOSITORY, digest)
          yield digest
        }
        held = bytesInUse() - before
      },
    })
    expect(held / count).toBeGreaterThan(50)
    expect(held / count).toBeLessThan(500)
    expect(report.bytes).toBe(0)
  } finally {
    await dispose()
  }
})

it('leaves the event loop to others, and sees that it is stopped, also where all is needed and nothing waits', async () => {
  const { store: folder, dispose } = await temporaryStore()
  const store = withObjects(folder, objectsOfBlobs(10_000))
  const stop = new AbortController()
  const collect = async (atTurn: (turn: number) => void) => {
    let turns = 0
    let isOver = false
    const count = (): void => {
      if (isOver) return
      atTurn(++turns)
      setImmediate(count)
    }
    const references = async function* ({ had }: Told) {
      for await (const { digest } of new BlobStore(store).list()) {
        had(REPOSITORY, digest)
        yield digest
      }
      count()
    }
    await new Collector(store).collect({ dryRun: true, references, signal: stop.signal }).finally(() => {
      isOver = true
    })
    return turns
  }
  try {
    const turns = await collect(() => undefined)
    expect(turns).toBeGreaterThan(20)
    for (const at of [1, Math.floor(turns / 4)])
      await expect(collect((turn) => turn === at && stop.abort(new Error('stopped')))).rejects.toThrow('stopped')
  } finally {
    await dispose()
  }
})

it('sees that it is stopped between two pieces of a blob, and while it counts tombstones', async () => {
  const { store: folder, dispose } = await temporaryStore()
  const digest = digestOf('in pieces')
  const pieces = [{ data: numberedDataKey(randomUUID(), 0), size: 10, count: 1_000 }]
  const record = Buffer.from(JSON.stringify({ rev: '', value: { pieces, size: 10_000, holders: [] } }))
  const store = withObjects(folder, new Map([[keys.blob(digest), record]]))
  const references = (): AsyncIterable<Digest> => Readable.from([])
  const stoppedAfter = async (
    method: 'stat' | 'list',
    count: number,
  ): Promise<{ readonly calls: number; readonly error: unknown }> => {
    const stop = new AbortController()
    let calls = 0
    const stopping = {
      ...store,
      [method]: async (...args: [string]) => {
        if (++calls === count) stop.abort(new Error('stopped'))
        return store[method](...args)
      },
    }
    const error: unknown = await new Collector(stopping)
      .collect({ dryRun: true, references, signal: stop.signal })
      .then(
        () => undefined,
        (reason: unknown) => reason,
      )
    return { calls, error }
  }
  try {
    const all = await stoppedAfter('stat', Infinity)
    expect(all).toEqual({ calls: 1_000, error: undefined })
    const some = await stoppedAfter('stat', 3)
    expect(some.calls).toBe(3)
    expect(some.error).toMatchObject({ message: 'stopped' })
    const { calls: lists } = await stoppedAfter('list', Infinity)
    // Of the last lists there is one for each kind of record that may be a tombstone.
    expect((await stoppedAfter('list', lists - 4)).error).toMatchObject({ message: 'stopped' })
  } finally {
    await dispose()
  }
})

/** The objects of so many layers in one repository, each by its key, as their bytes. */
function objectsOfBlobs(count: number): Map<string, Buffer> {
  const objects: [string, Buffer][] = []
  const record = (value: unknown) => Buffer.from(JSON.stringify({ rev: randomUUID().slice(0, 16), value }))
  for (let n = 0; n < count; n++) {
    const digest = digestFromHex(hash('sha256', `${n}`))
    const data = keys.data(randomUUID(), randomUUID())
    objects.push(
      [keys.blob(digest), record({ data, size: 1_234_567, diffId: digest, holders: [] })],
      [data, Buffer.alloc(0)],
      [keys.repositoryBlob(REPOSITORY, digest), record({ holders: [] })],
    )
  }
  return new Map(objects.sort(([a], [b]) => (a < b ? -1 : 1)))
}

/** A store with these objects, in the order of their keys, and those of `store`. */
function withObjects(store: ObjectStore, objects: ReadonlyMap<string, Buffer>): ObjectStore {
  const listed = [...objects].map(([key, { length: size }]) => ({ key, size, etag: key as Etag }))
  return {
    ...withoutAbilities(store),
    read: async (key, maxBytes) => {
      const bytes = objects.get(key)
      return bytes ? { bytes, etag: key as Etag } : store.read(key, maxBytes)
    },
    list: async (prefix, options = {}) => {
      const { after = '' } = options
      const left = listed.filter(({ key }) => key.startsWith(prefix) && key > after)
      if (left.length === 0) return store.list(prefix, options)
      const page = left.slice(0, 1_000)
      return { objects: page, ...(left.length > page.length ? { next: page.at(-1)!.key } : {}) }
    },
  }
}
