import { randomBytes } from 'node:crypto'
import { digestOf, type Digest } from '@strata/oci'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { piecesOf } from './blobs/blob-record.js'
import { BlobStore } from './blobs/blobs.js'
import { Collector } from './blobs/collector.js'
import { freshDataKey, keys } from './keys.js'
import { MAX_RECORD_BYTES, type ObjectStore } from './objects/object-store.js'
import { Records, TOMBSTONE_BYTES, type DamagedRecord } from './records.js'
import { RemovedNodes } from './removed-nodes.js'
import { temporaryStore, withoutAbilities } from './testing/temporary-store.js'
import { Leases } from './leases/leases.js'

const jobOf = (id: string) => ({ kind: 'load', id }) as const

describe.each(['a store with a lock of its own', 'a store with the verbs alone'])('damaged records on %s', (kind) => {
  let store: ObjectStore
  let dispose: () => Promise<void>
  beforeEach(async () => {
    const temporary = await temporaryStore()
    dispose = temporary.dispose
    store = kind === 'a store with the verbs alone' ? withoutAbilities(temporary.store) : temporary.store
  })
  afterEach(() => dispose())

  /** What is there, or nothing, becomes this. */
  const damage = async (key: string, bytes: string | Buffer = ''): Promise<void> => {
    const there = await store.stat(key)
    const written = there
      ? await store.replace(key, Buffer.from(bytes), there.etag)
      : await store.create(key, Buffer.from(bytes))
    expect(written).toBeDefined()
  }
  const collect = async (referred: readonly Digest[] = [], dryRun = false) =>
    (
      await new Collector(store).collect({
        dryRun,
        references: async function* () {
          yield* await Promise.resolve(referred)
        },
      })
    ).report

  describe.each([
    ['empty', ''],
    ['half', '{"rev":"a","val'],
    ['zeros', Buffer.alloc(200)],
    ['of another shape', '{"rev":"a","value":{"n":"one"}}'],
    ['a list', '[]'],
    ['deep', '['.repeat(10_000)],
    ['too large', Buffer.alloc(MAX_RECORD_BYTES + 1, ' ')],
  ])('one that is %s', (_, bytes) => {
    const key = 'nodes/b'
    let records: Records<{ n: number }>
    beforeEach(async () => {
      records = new Records(store, z.object({ n: z.number() }), 'the test record', () => 'do something')
      for (const name of ['nodes/a', 'nodes/c']) await records.write(name, { n: 1 }, undefined)
      await damage(key, bytes)
    })
    const list = async () => {
      const [found, damaged]: [string[], DamagedRecord[]] = [[], []]
      for await (const one of records.list('nodes/', { onDamaged: (record) => damaged.push(record) }))
        found.push(one.key)
      return { found, damaged }
    }

    it('is told of, with what to do, and does not hide the others', async () => {
      await expect(records.read(key)).rejects.toMatchObject({
        code: 'corrupt',
        message: expect.stringMatching(/^(the test record )?nodes\/b .*: do something$/) as string,
      })
      const { found, damaged } = await list()
      expect(found).toEqual(['nodes/a', 'nodes/c'])
      expect(damaged).toMatchObject([{ key, size: Buffer.from(bytes).length, damage: { code: 'corrupt' } }])
    })

    it('can be written over and retired, if it is as it was seen', async () => {
      const seen = await records.findToWrite(key)
      expect(seen).toMatchObject({ value: undefined, damage: { code: 'corrupt' } })
      await records.renew(key)
      expect(await records.write(key, { n: 2 }, seen)).toBeUndefined()
      expect((await list()).damaged).toHaveLength(1)
      expect(await records.retire(key, seen!)).toBe(false)
      expect(await records.write(key, { n: 2 }, await records.look(key))).toBeDefined()
      expect(await records.read(key)).toEqual({ n: 2 })
      await damage(key, bytes)
      expect(await records.retire(key, (await records.look(key))!)).toBe(true)
      expect(await records.read(key)).toBeUndefined()
    })
  })

  it('is named in the log once for each state', async () => {
    const told: string[] = []
    const onWarning = ({ message }: Error): void => void told.push(message)
    process.on('warning', onWarning)
    const records = new Records(store, z.unknown(), 'the test record')
    await damage('nodes/a', `{${kind}`)
    for (let i = 0; i < 3; i++) for await (const { key } of records.list('nodes/')) expect.unreachable(key)
    await damage('nodes/a', `}${kind}`)
    for await (const { key } of records.list('nodes/')) expect.unreachable(key)
    await new Promise(setImmediate)
    process.off('warning', onWarning)
    expect(told).toEqual(Array(2).fill('the test record nodes/a is not JSON'))
  })

  it('renewed is no tombstone, whatever its length', async () => {
    const records = new Records(store, z.unknown(), 'the test record')
    for (let length = 0; length <= TOMBSTONE_BYTES; length++) {
      await damage('nodes/a', 'x'.repeat(length))
      await records.renew('nodes/a')
      expect((await store.stat('nodes/a'))?.size).not.toBe(TOMBSTONE_BYTES)
      expect((await records.look('nodes/a'))?.damage).toBeDefined()
    }
  })

  describe('of a blob', () => {
    const bytes = randomBytes(1_000)
    const digest = digestOf(bytes)
    let blobs: BlobStore
    let leases: Leases
    /** Where its bytes were, when its record still said so. */
    let data: string
    beforeEach(async () => {
      blobs = new BlobStore(store)
      leases = new Leases(store)
      await leases.create('first', { job: jobOf('first'), request: {} })
      await blobs.add(digest, bytes, 'first')
      data = piecesOf((await blobs.stat(digest))!)[0]!.data
      await leases.end('first')
      await damage(keys.blob(digest), '{"rev":')
    })

    it('is no reason to read something else, and is written over by whoever brings the bytes', async () => {
      await expect(blobs.read(digest, 2_000)).rejects.toMatchObject({ code: 'corrupt' })
      await expect(blobs.open(digest)).rejects.toMatchObject({ code: 'corrupt' })
      expect(await blobs.stat(digest)).toBeUndefined()
      for (const id of ['other', 'second']) await leases.create(id, { job: jobOf(id), request: {} })
      expect(await blobs.hold(digest, 'second')).toBe(false)
      expect(await blobs.add(digest, bytes, 'second')).toBe('created')
      expect(await blobs.read(digest, 2_000)).toEqual(bytes)
      // The other may have held it: nobody can tell any more.
      expect((await blobs.stat(digest))?.holders).toEqual(['other', 'second'])
      await leases.end('second')
      await collect()
      expect(await blobs.read(digest, 2_000)).toEqual(bytes)
      expect(await store.stat(data)).toBeUndefined()
    })

    it('keeps all data without a record, and other blobs go', async () => {
      const garbage = randomBytes(500)
      await leases.create('second', { job: jobOf('second'), request: {} })
      await blobs.add(digestOf(garbage), garbage, 'second')
      const left = freshDataKey('second')
      await store.put(left, randomBytes(100))
      await leases.end('second')
      for (const digests of [undefined, [digest]])
        expect(await blobs.deleteUnused('second', digests)).toEqual({ objects: 0, bytes: 0 })
      const report = await collect([digest])
      expect(report).toMatchObject({ blobs: { count: 1, bytes: 500 }, data: { count: 0 } })
      for (const key of [data, left]) expect(await store.stat(key)).toBeDefined()
    })

    it('is retired when nothing refers to it and no upload lives, to the byte as foretold', async () => {
      await leases.create('live', { job: jobOf('live'), request: {} })
      expect(await collect()).toMatchObject({ data: { count: 0 } })
      expect((await new Records(store, z.unknown(), 'it').look(keys.blob(digest)))?.damage).toBeDefined()
      await leases.end('live')
      const foretold = await collect([], true)
      expect(await collect()).toEqual(foretold)
      expect(foretold).toMatchObject({ data: { count: 1, bytes: 1_000 } })
      expect(await store.stat(data)).toBeUndefined()
      expect(await new Records(store, z.unknown(), 'it').read(keys.blob(digest))).toBeUndefined()
    })
  })

  it('of an upload counts as living, until it is ended by its ETag', async () => {
    const [leases, blobs] = [new Leases(store), new BlobStore(store)]
    const bytes = randomBytes(1_000)
    for (const id of ['u', 'whole']) await leases.create(id, { job: jobOf(id), request: {} })
    await blobs.add(digestOf(bytes), bytes, 'u')
    await damage(keys.lease('u'), '\0\0')
    await leases.end('whole')
    expect(await collect()).toMatchObject({ blobs: { count: 0 }, data: { count: 0 } })
    const damaged: Parameters<Leases['endUnchanged']>[] = []
    for await (const { id } of leases.listLive({ onDamaged: (one) => damaged.push([one.id, one.etag]) }))
      expect.unreachable(id)
    expect(damaged).toEqual([['u', expect.any(String)]])
    expect(await leases.endUnchanged(...damaged[0]!)).toBe(true)
    expect(await collect()).toMatchObject({ blobs: { count: 1 } })
  })

  it('of a removed node keeps the node out until its owner brings it back', async () => {
    const removed = new RemovedNodes(store)
    await removed.add('n1', { by: 'r', removedAt: '2026-01-01' })
    await damage(keys.removedNode('n1'))
    await removed.add('n1', { by: 'other', removedAt: '2026-01-02' })
    await removed.clear('n1', 'r')
    expect(await removed.refusal('n1')).toMatchObject({ code: 'node_removed' })
    await removed.clear('n1')
    expect(await removed.refusal('n1')).toBeUndefined()
  })
})
