import { randomBytes } from 'node:crypto'
import { StrataError } from '@strata/base'
import { digestOf, type Digest, type DiffId, type Repository } from '@strata/oci'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { BlobStore } from '../blobs/blobs.js'
import type { StoreCollection } from '../blobs/collection-sums.js'
import { Collector } from '../blobs/collector.js'
import { freshDataKey, keys, PREFIX } from '../keys.js'
import { conditionalRemove, listAll, partialUploads, type ObjectStore } from '../objects/object-store.js'
import { Records, TOMBSTONE_BYTES } from '../records.js'
import { Leases } from '../leases/leases.js'
import { bytesInUse } from './memory.js'
import type { StoreUnderTest } from './object-store-suite.js'

const MUTATIONS = ['put', 'create', 'replace', 'delete', 'removeUnchanged'] as const

/**
 * The laws of Collector as tests, on any driver. `hasPartial`: it has the ability `PartialUploads`,
 * which then has a law of its own.
 */
export function collectorSuite(name: string, make: () => Promise<StoreUnderTest>, { hasPartial = false } = {}): void {
  describe(`collector on ${name}`, () => {
    let under: StoreUnderTest
    let store: ObjectStore
    let blobs: BlobStore
    let leases: Leases
    /** What names refer to. */
    let referred: Set<Digest>
    beforeEach(async () => {
      under = await make()
      store = under.store
      blobs = new BlobStore(store)
      leases = new Leases(store)
      referred = new Set()
    })
    afterEach(() => under.dispose())

    const begin = (id: string) => leases.create(id, { job: { kind: 'load', id }, request: {} })
    const add = async (upload: string, bytes: Buffer = randomBytes(1_000)) => {
      const digest = digestOf(bytes)
      await blobs.add(digest, bytes, upload)
      return digest
    }
    /** A layer's blob, proven, with its index. */
    const addLayer = async (upload: string) => {
      const digest = await add(upload)
      await blobs.prove(digest, digest as DiffId)
      await store.create(keys.index(digest as DiffId), randomBytes(300))
      return digest
    }
    const collect = async (options: { dryRun?: boolean; on?: ObjectStore; meanwhile?: () => Promise<void> } = {}) =>
      (
        await new Collector(options.on ?? store).collect({
          dryRun: options.dryRun ?? false,
          references: async function* () {
            await options.meanwhile?.()
            yield* [...referred]
          },
        })
      ).report
    const objects = async () => {
      const found = new Map<string, number>()
      for await (const { key, size } of listAll(store, '')) found.set(key, size)
      return found
    }
    it('takes away what was put where a name was to be, where the store can, and a write over it begins again', async () => {
      const names = new Records(store, z.object({ digest: z.string() }), 'the record of image name')
      const key = 'images/a/_tags/1'
      const seen = await names.findToWrite(key)
      await collect()
      if (!conditionalRemove(store)) return expect(seen).toBeUndefined()
      expect(await objects()).toEqual(new Map())
      expect(await names.write(key, { digest: 'x' }, seen)).toBeUndefined()
    })

    const sizeOf = (found: ReadonlyMap<string, number>) => [...found.values()].reduce((sum, size) => sum + size, 0)
    /** What is there, tombstones apart, by the first part of its key. */
    const left = async () =>
      Object.groupBy(
        [...(await objects())].filter(([, size]) => size !== TOMBSTONE_BYTES).map(([key]) => key),
        (key) => key.split('/', 1)[0]!,
      )
    const nothing = (report: StoreCollection) => ({ ...report, bytes: report.bytes, tombstones: undefined })
    const expectNothing = (report: StoreCollection) => {
      const none = { count: 0, bytes: 0 }
      expect(nothing(report)).toEqual({
        blobs: none,
        data: none,
        indexes: none,
        records: none,
        partialUploads: none,
        undeleted: none,
        bytes: 0,
        linked: 0,
        tombstones: undefined,
      })
    }

    it('frees what nothing needs, to the byte, and says so beforehand', async () => {
      const before = sizeOf(await objects())
      await begin('u')
      await addLayer('u')
      await add('u')
      await store.put(freshDataKey('u'), randomBytes(500))
      await store.create(keys.index(digestOf(Buffer.from('gone')) as DiffId), randomBytes(200))
      await leases.end('u')
      const full = await objects()
      const foretold = await collect({ dryRun: true })
      expect(await objects()).toEqual(full)
      const report = await collect()
      expect(report).toEqual(foretold)
      expect(report).toMatchObject({
        blobs: { count: 2, bytes: 2_000 },
        data: { count: 1, bytes: 500 },
        indexes: { count: 2, bytes: 500 },
        // Two blobs' and, where the store can, the mark of the upload's id.
        records: { count: conditionalRemove(store) ? 3 : 2 },
      })
      const after = await objects()
      expect(sizeOf(full) - sizeOf(after)).toBe(report.bytes)
      expect(sizeOf(after) - before).toBe(report.tombstones.bytes)
      expect(await left()).toEqual({})
      const again = await collect()
      expectNothing(again)
      expect(again.tombstones).toEqual(report.tombstones)
    })

    it('keeps what something refers to, and what a live upload holds or has written', async () => {
      await begin('ended')
      const named = await addLayer('ended')
      const shared = await addLayer('ended')
      referred.add(named)
      await begin('live')
      expect(await blobs.hold(shared, 'live')).toBe(true)
      const own = await add('live')
      const underway = freshDataKey('live')
      await store.put(underway, randomBytes(100))
      await leases.end('ended')
      const report = await collect()
      expect(report).toMatchObject({ blobs: { count: 0 }, data: { count: 0 }, indexes: { count: 0 } })
      for (const digest of [named, shared, own]) expect((await blobs.read(digest, 2_000)).length).toBe(1_000)
      expect(await store.stat(underway)).toBeDefined()
      expect((await left())['index']).toHaveLength(2)
      await leases.end('live')
      referred.clear()
      expect(await collect()).toMatchObject({ blobs: { count: 3 }, data: { count: 1 }, indexes: { count: 2 } })
      expect(await left()).toEqual({})
    })

    it('leaves ended holders out of the records that stay', async () => {
      await begin('first')
      const digest = await add('first')
      referred.add(digest)
      for (let i = 0; i < 5; i++) {
        await begin(`u${i}`)
        await blobs.hold(digest, `u${i}`)
        if (i !== 3) await leases.end(`u${i}`)
      }
      await leases.end('first')
      const before = sizeOf(await objects())
      const report = await collect()
      expect((await blobs.stat(digest))?.holders).toEqual(['u3'])
      expect(before - sizeOf(await objects())).toBe(report.bytes)
      expectNothing(await collect())
    })

    it('lets a hold that comes after the list win, and a name that is visible before the references are read', async () => {
      await begin('old')
      const [held, named, gone] = [await add('old'), await add('old'), await add('old')]
      await leases.end('old')
      await begin('new')
      const report = await collect({
        meanwhile: async () => {
          // Between the lists and the decision: as late as anyone can come.
          expect(await blobs.hold(held, 'new')).toBe(true)
          await begin('brief')
          await blobs.hold(named, 'brief')
          referred.add(named)
          await leases.end('brief')
        },
      })
      expect(report.blobs.count).toBe(1)
      expect(await blobs.stat(gone)).toBeUndefined()
      for (const digest of [held, named]) expect((await blobs.read(digest, 2_000)).length).toBe(1_000)
    })

    it('a blob that was collected can come again', async () => {
      const bytes = randomBytes(700)
      for (const upload of ['a', 'b', 'c']) {
        await begin(upload)
        const digest = await add(upload, bytes)
        expect(await blobs.read(digest, 1_000)).toEqual(bytes)
        await leases.end(upload)
        expect((await collect()).blobs).toEqual({ count: 1, bytes: 700 })
        expect(await blobs.hold(digest, upload).catch((error: unknown) => (error as { code: string }).code)).toBe(false)
      }
      expect(await left()).toEqual({})
    })

    it('dies at any write, and the next one does the rest', async () => {
      for (let writes = 0; ; writes++) {
        referred.clear()
        const upload = `u${writes}`
        await begin(upload)
        const kept = await addLayer(upload)
        referred.add(kept)
        for (let i = 0; i < 3; i++) await addLayer(upload)
        await store.put(freshDataKey(upload), randomBytes(50))
        await leases.end(upload)
        const survived = await collect({ on: dyingAfter(store, writes) }).then(
          () => true,
          () => false,
        )
        expect((await blobs.read(kept, 2_000)).length).toBe(1_000)
        await collect()
        expect((await blobs.read(kept, 2_000)).length).toBe(1_000)
        const { blobs: records = [], data = [], index = [], uploads: live = [] } = await left()
        expect([records.length, data.length, index.length, live.length]).toEqual([1, 1, 1, 0])
        if (survived) return
      }
    }, 60_000)

    it('any number at once end as one does', async () => {
      await begin('u')
      const kept = await addLayer('u')
      referred.add(kept)
      for (let i = 0; i < 20; i++) await addLayer('u')
      await leases.end('u')
      const full = sizeOf(await objects())
      const reports = await Promise.all(Array.from({ length: 4 }, () => collect()))
      expect(reports.reduce((sum, { blobs: { count } }) => sum + count, 0)).toBe(20)
      expect(reports.reduce((sum, { blobs, records }) => sum + blobs.bytes + records.bytes, 0)).toBeLessThanOrEqual(
        full,
      )
      await collect()
      expect((await blobs.read(kept, 2_000)).length).toBe(1_000)
      expect(await left()).toMatchObject({
        blobs: [expect.anything()],
        data: [expect.anything()],
        index: [expect.anything()],
      })
      expectNothing(await collect())
    })

    if (hasPartial) {
      it('takes away what a store keeps of writes that ended in the middle, but not of those under way', async () => {
        const partial = partialUploads(store)!
        const open = Promise.withResolvers<undefined>()
        async function* endless() {
          for (let i = 0; i < 3; i++) yield Buffer.alloc(20 * 1024 * 1024)
          await open.promise
        }
        await begin('live')
        const puts = ['live', 'dead'].map((upload) =>
          store.put(freshDataKey(upload), endless()).then(
            () => 'put',
            () => 'failed',
          ),
        )
        await expect.poll(() => gather(partial.listPartial()), { timeout: 20_000 }).toHaveLength(2)
        const foretold = await collect({ dryRun: true })
        expect(foretold.partialUploads.count).toBe(1)
        expect((await collect()).partialUploads.count).toBe(1)
        open.resolve(undefined)
        expect(await Promise.all(puts)).toEqual(['put', 'failed'])
        expect(await gather(partial.listPartial())).toEqual([])
      }, 60_000)
    }

    it('reads each record once, however often it has to be looked for', async () => {
      await begin('u')
      for (let i = 0; i < 5; i++) await addLayer('u')
      const read: string[] = []
      const watched = new Proxy(store, {
        get: (target, name) => {
          const value: unknown = Reflect.get(target, name)
          if (typeof value !== 'function') return value
          return (...args: unknown[]): unknown => {
            if (name === 'read' && String(args[0]).startsWith(PREFIX.blobs)) read.push(String(args[0]))
            return Reflect.apply(value, target, args)
          }
        },
      })
      const nobody = async function* (): AsyncGenerator<Digest> {
        yield* await Promise.resolve([])
      }
      await new Collector(watched).collect({ dryRun: false, references: nobody })
      expect(read).toHaveLength(5)
      expect(new Set(read).size).toBe(5)
    })

    it('keeps nothing in memory of references to blobs that are not stored', async () => {
      await begin('u')
      const named = await add('u')
      await leases.end('u')
      const count = 50_000
      let grown = 0
      await new Collector(store).collect({
        dryRun: false,
        references: async function* ({ had }): AsyncGenerator<Digest> {
          const before = bytesInUse()
          for (let n = 0; n < count; n++) {
            const digest = `sha256:${String(n).padStart(64, '0')}` as Digest
            had('docker.io/library/app' as Repository, digest)
            yield await Promise.resolve(digest)
          }
          yield named
          grown = bytesInUse() - before
        },
      })
      expect(grown / count).toBeLessThan(50)
      expect((await blobs.read(named, 2_000)).length).toBe(1_000)
    })

    it('goes on past objects that the store does not delete now; the next collection takes them', async () => {
      await begin('u')
      const [read] = [await add('u'), await add('u')]
      const loose = [freshDataKey('u'), freshDataKey('u')]
      for (const key of loose) await store.put(key, randomBytes(500))
      await leases.end('u')
      const sent = [((await blobs.stat(read)) as { data: string }).data, loose[0]!]
      const before = sizeOf(await objects())
      const report = await collect({ on: sending(store, sent) })
      expect(report).toMatchObject({
        blobs: { count: 2, bytes: 1_000 },
        data: { count: 1, bytes: 500 },
        undeleted: { count: 2, bytes: 1_500 },
      })
      expect(before - sizeOf(await objects())).toBe(report.bytes)
      expect((await left())['data']?.sort()).toEqual([...sent].sort())
      expect(await collect()).toMatchObject({ data: { count: 2, bytes: 1_500 }, undeleted: { count: 0 } })
      expect(await left()).toEqual({})
    })

    it('stops when it is told to, and deletes nothing when the references cannot be read', async () => {
      await begin('u')
      await add('u')
      await leases.end('u')
      const before = await objects()
      const collector = new Collector(store)
      const references = async function* (): AsyncGenerator<Digest> {
        yield await Promise.reject<Digest>(new Error('a manifest is damaged'))
      }
      await expect(collector.collect({ dryRun: false, references })).rejects.toThrow('a manifest is damaged')
      const nobody = async function* (): AsyncGenerator<Digest> {
        yield* await Promise.resolve([])
      }
      await expect(
        collector.collect({ dryRun: false, references: nobody, signal: AbortSignal.abort(new Error('told to')) }),
      ).rejects.toThrow('told to')
      expect(await objects()).toEqual(before)
    })
  })
}

/**
 * The same store for a process that dies after so many writes: each later one, and every read,
 * fails.
 */
function dyingAfter(store: ObjectStore, writes: number): ObjectStore {
  let left = writes
  let dead = false
  return new Proxy(store, {
    get: (target, property) => {
      const member: unknown = Reflect.get(target, property, target)
      if (typeof member !== 'function') return member
      return (...args: unknown[]): unknown => {
        if ((MUTATIONS as readonly unknown[]).includes(property) && left-- <= 0) dead = true
        // Which gives a path, not a promise.
        if (dead && property !== 'localPath') return Promise.reject(new Error('killed'))
        return (member as (...args: unknown[]) => unknown).apply(target, args)
      }
    },
  })
}

/** The same store, which deletes nothing in a call with one of these keys: MinIO, sending them. */
function sending(store: ObjectStore, sent: readonly string[]): ObjectStore {
  return new Proxy(store, {
    get: (target, property) => {
      const member: unknown = Reflect.get(target, property, target)
      if (typeof member !== 'function') return member
      if (property !== 'delete') return member.bind(target) as unknown
      return async (keys: readonly string[]) => {
        if (keys.some((key) => sent.includes(key))) throw new StrataError('store_unavailable', 'it is silent')
        await target.delete(keys)
      }
    },
  })
}

async function gather<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}
