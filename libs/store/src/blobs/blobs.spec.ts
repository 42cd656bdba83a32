import { digestOf, parseDiffId, type Digest } from '@strata/oci'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { BlobStore } from './blobs.js'
import { freshDataKey, keys } from '../keys.js'
import { listAll, type ObjectStore } from '../objects/object-store.js'
import { Records } from '../records.js'
import { blobRecordSchema, piecesOf } from './blob-record.js'
import { blobSuite } from '../testing/blob-suite.js'
import { counted } from '../testing/counted-store.js'
import { temporaryStore, withoutAbilities } from '../testing/temporary-store.js'
import { Leases } from '../leases/leases.js'

const none = () => Promise.resolve([])

blobSuite('a folder', async () => ({ ...(await temporaryStore()), leftovers: none }))

blobSuite('a store with the verbs alone', async () => {
  const { store, dispose } = await temporaryStore()
  return { store: withoutAbilities(store), dispose, leftovers: none }
})

const bytes = Buffer.from('a layer, perhaps')
const digest = digestOf(bytes)

describe.each(['a store with a lock of its own', 'a store with the verbs alone'])('BlobStore on %s', (kind) => {
  let store: ObjectStore
  let dispose: () => Promise<void>
  let blobs: BlobStore
  let leases: Leases
  beforeEach(async () => {
    const temporary = await temporaryStore()
    dispose = temporary.dispose
    store = kind === 'a store with the verbs alone' ? withoutAbilities(temporary.store) : temporary.store
    blobs = new BlobStore(store)
    leases = new Leases(store)
    for (const id of ['a', 'b']) await leases.create(id, { job: { kind: 'load', id }, request: {} })
  })
  afterEach(() => dispose())

  const proven = async (upload: string) => {
    const data = freshDataKey(upload)
    await store.put(data, bytes)
    return { data, size: bytes.length }
  }
  const dataKeys = async () => {
    const found: string[] = []
    for await (const { key } of listAll(store, 'data/')) found.push(key)
    return found
  }
  /** What the collector does: the record ends if it is as it was read. */
  const collect = async (of: Digest) => {
    const records = new Records(store, blobRecordSchema, 'the record of blob')
    const seen = (await records.find(keys.blob(of)))!
    expect(await records.retire(keys.blob(of), seen)).toBe(true)
    await store.delete(piecesOf(seen.value!).map(({ data }) => data))
  }

  it('shows a blob when it is committed, and not before', async () => {
    const mine = await proven('a')
    expect(await blobs.stat(digest)).toBeUndefined()
    expect(await blobs.hold(digest, 'a')).toBe(false)
    await expect(blobs.read(digest, 100)).rejects.toMatchObject({ code: 'not_found' })
    expect(await blobs.commit(digest, mine, 'a')).toBe('created')
    expect(await blobs.stat(digest)).toEqual({ ...mine, holders: ['a'] })
    expect(await blobs.read(digest, 100)).toEqual(bytes)
    const { size, body } = await blobs.open(digest, { start: 2, end: 7 })
    expect(size).toBe(bytes.length)
    expect(Buffer.concat((await body.toArray()) as Buffer[]).toString()).toBe('layer')
  })

  it('keeps bytes once: who comes later holds what is there', async () => {
    const first = await proven('a')
    await blobs.commit(digest, first, 'a')
    expect(await blobs.commit(digest, await proven('b'), 'b')).toBe('existing')
    expect(await dataKeys()).toEqual([first.data])
    expect((await blobs.stat(digest))?.holders).toEqual(['a', 'b'])
    expect(await blobs.hold(digest, 'b')).toBe(true)
    expect((await blobs.stat(digest))?.holders).toEqual(['a', 'b'])
  })

  it('forgets holders that have ended, when there are many', async () => {
    const ended = Array.from({ length: 511 }, (_, i) => `ended-${i}`)
    const records = new Records(store, blobRecordSchema, 'the record of blob')
    await records.write(keys.blob(digest), { ...(await proven('a')), holders: ['a', ...ended] }, undefined)
    expect(await blobs.hold(digest, 'b')).toBe(true)
    expect((await blobs.stat(digest))?.holders).toEqual(['a', 'b'])
  })

  it('leases that hold a blob at the same time are added by two writes, and ended ones are never many', async () => {
    await blobs.commit(digest, await proven('a'), 'a')
    const { store: counting, calls } = counted(store)
    const joint = new BlobStore(counting)
    for (let round = 0; round < 5; round++) {
      const ids = Array.from({ length: 16 }, (_, i) => `round-${round}-${i}`)
      const runs = await Promise.all(ids.map((id) => leases.create(id, { job: { kind: 'tag', id }, request: {} })))
      calls()
      expect(await Promise.all(ids.map((id) => joint.hold(digest, id)))).toEqual(ids.map(() => true))
      expect(calls()['replace']).toBeLessThanOrEqual(2)
      const { holders } = (await blobs.stat(digest))!
      expect(holders).toEqual(expect.arrayContaining(['a', ...ids]))
      expect(holders.length).toBeLessThanOrEqual(32 + 16)
      for (const run of runs) await leases.endBy(run, 'done')
    }
  })

  it('of many who commit at once one creates, all hold, and one copy stays', async () => {
    const ids = Array.from({ length: 10 }, (_, i) => `many-${i}`)
    for (const id of ids) await leases.create(id, { job: { kind: 'load', id }, request: {} })
    const ends = await Promise.all(ids.map(async (id) => blobs.commit(digest, await proven(id), id)))
    expect(ends.filter((end) => end === 'created')).toHaveLength(1)
    const record = (await blobs.stat(digest))!
    expect([...record.holders].sort()).toEqual([...ids].sort())
    expect(await dataKeys()).toEqual(piecesOf(record).map(({ data }) => data))
  })

  it('ends the same when run again', async () => {
    const mine = await proven('a')
    expect(await blobs.commit(digest, mine, 'a')).toBe('created')
    expect(await blobs.commit(digest, mine, 'a')).toBe('created')
    expect(await blobs.read(digest, 100)).toEqual(bytes)
  })

  it('takes a tombstone for absence, and a record whose bytes are gone', async () => {
    await blobs.commit(digest, await proven('a'), 'a')
    await collect(digest)
    expect(await blobs.stat(digest)).toBeUndefined()
    expect(await blobs.hold(digest, 'b')).toBe(false)
    const anew = await proven('b')
    expect(await blobs.commit(digest, anew, 'b')).toBe('created')
    await store.delete([anew.data])
    expect(await blobs.hold(digest, 'a')).toBe(false)
    await expect(blobs.read(digest, 100)).rejects.toMatchObject({ code: 'not_found' })
    expect(await blobs.commit(digest, await proven('a'), 'a')).toBe('created')
    expect(await blobs.read(digest, 100)).toEqual(bytes)
    expect((await blobs.stat(digest))?.holders).toEqual(['b', 'a'])
  })

  it('makes a new blob with three calls to the store', async () => {
    const mine = await proven('a')
    const calls: string[] = []
    const counted = new Proxy(store, {
      get: (target, name) => {
        const member: unknown = Reflect.get(target, name, target)
        if (typeof member !== 'function') return member
        return (...args: unknown[]): unknown => {
          calls.push(`${String(name)} ${String(args[0])}`)
          return (member as (...args: unknown[]) => unknown).apply(target, args)
        }
      },
    })
    expect(await new BlobStore(counted).commit(digest, mine, 'a')).toBe('created')
    expect(calls).toEqual([`create ${keys.blob(digest)}`, `read ${keys.lease('a')}`, `replace ${keys.blob(digest)}`])
  })

  it('refuses bytes of another lease', async () => {
    await expect(blobs.commit(digest, await proven('b'), 'a')).rejects.toMatchObject({ code: 'internal' })
    expect(await blobs.stat(digest)).toBeUndefined()
  })

  it('makes a stale collector fail: a hold changes the record', async () => {
    await blobs.commit(digest, await proven('a'), 'a')
    const records = new Records(store, blobRecordSchema, 'the record of blob')
    const seen = (await records.find(keys.blob(digest)))!
    expect(await blobs.hold(digest, 'b')).toBe(true)
    expect(await records.retire(keys.blob(digest), seen)).toBe(false)
  })

  it('stops an owner whose upload was ended', async () => {
    await blobs.commit(digest, await proven('b'), 'b')
    await leases.end('a')
    await expect(blobs.hold(digest, 'a')).rejects.toMatchObject({ code: 'upload_interrupted' })
    const other = Buffer.from('other')
    await expect(blobs.add(digestOf(other), other, 'a')).rejects.toMatchObject({ code: 'upload_interrupted' })
    expect(await blobs.stat(digestOf(other))).toBeUndefined()
  })

  it('notes a diffID once it is proven', async () => {
    const [diffId, other] = [parseDiffId(digestOf('tar')), parseDiffId(digestOf('other'))]
    await expect(blobs.prove(digest, diffId)).rejects.toMatchObject({ code: 'not_found' })
    await blobs.commit(digest, await proven('a'), 'a')
    await blobs.prove(digest, diffId)
    await blobs.prove(digest, diffId)
    expect((await blobs.stat(digest))?.diffId).toBe(diffId)
    await expect(blobs.prove(digest, other)).rejects.toMatchObject({ code: 'digest_mismatch' })
    await blobs.hold(digest, 'b')
    expect((await blobs.stat(digest))?.diffId).toBe(diffId)
  })

  it('verifies what it reads whole, and what is added', async () => {
    const mine = await proven('a')
    const wrong = digestOf('something else')
    await blobs.commit(wrong, mine, 'a')
    await expect(blobs.read(wrong, 100)).rejects.toMatchObject({ code: 'corrupt' })
    await expect(blobs.add(wrong, bytes, 'a')).rejects.toMatchObject({ code: 'digest_mismatch' })
    expect(await blobs.add(digest, bytes, 'a')).toBe('created')
    expect(await blobs.add(digest, bytes, 'b')).toBe('existing')
    await expect(blobs.read(digest, 3)).rejects.toMatchObject({ code: 'limit_exceeded' })
  })

  it('gives a path where objects are files', async () => {
    await blobs.commit(digest, await proven('a'), 'a')
    const path = blobs.localPath((await blobs.stat(digest))!)
    if (kind === 'a store with the verbs alone') expect(path).toBeUndefined()
    else expect(path).toMatch(/\/objects\/data\/a\//)
  })

  it.each(['known', 'unknown'])(
    'sweeps what an ended upload left, and nothing that a blob uses; digests %s',
    async (digests) => {
      const kept = await proven('a')
      await blobs.commit(digest, kept, 'a')
      await proven('a')
      const other = await proven('b')
      const known = digests === 'known' ? [digest, digestOf('never came')] : undefined
      expect(await blobs.deleteUnused('a', known)).toEqual({ objects: 0, bytes: 0 })
      expect(await dataKeys()).toHaveLength(3)
      await leases.end('a')
      expect(await blobs.deleteUnused('a', known)).toEqual({ objects: 1, bytes: bytes.length })
      expect(await dataKeys()).toEqual([kept.data, other.data])
      expect(await blobs.deleteUnused('a', known)).toEqual({ objects: 0, bytes: 0 })
    },
  )

  it('sweeps what several ended uploads left by one look at the records, and nothing of one that lives', async () => {
    for (const id of ['c', 'd']) await leases.create(id, { job: { kind: 'load', id }, request: {} })
    const kept = await proven('a')
    await blobs.commit(digest, kept, 'a')
    for (const id of ['a', 'b', 'c', 'd']) await proven(id)
    const living = await proven('d')
    for (const id of ['a', 'b', 'c']) await leases.end(id)
    let reads = 0
    const read: ObjectStore['read'] = async (key, maxBytes) => {
      if (key === keys.blob(digest)) reads++
      return store.read(key, maxBytes)
    }
    const counting = new BlobStore({ ...withoutAbilities(store), read })
    expect(await counting.deleteUnused(['a', 'b', 'c', 'd'])).toEqual({ objects: 3, bytes: 3 * bytes.length })
    expect(reads).toBe(1)
    expect(await dataKeys()).toEqual(expect.arrayContaining([kept.data, living.data]))
    expect(await dataKeys()).toHaveLength(3)
  })

  it('lists records, not tombstones', async () => {
    await blobs.commit(digest, await proven('a'), 'a')
    await blobs.add(digestOf('gone'), Buffer.from('gone'), 'a')
    await collect(digestOf('gone'))
    const found: Digest[] = []
    for await (const entry of blobs.list()) found.push(entry.digest)
    expect(found).toEqual([digest])
  })
})
