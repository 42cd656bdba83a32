import { randomBytes, randomUUID } from 'node:crypto'
import { digestOf } from '@strata/oci'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { BlobStore } from '../blobs/blobs.js'
import { Collector } from '../blobs/collector.js'
import { freshDataKey, keys, PREFIX } from '../keys.js'
import { listAll, type ObjectStore } from '../objects/object-store.js'
import { temporaryStore, withoutAbilities } from '../testing/temporary-store.js'
import { Leases } from './leases.js'
import { UsedIds } from './used-ids.js'

describe.each(['a store with a lock of its own', 'a store with the verbs alone'])('used ids on %s', (kind) => {
  let store: ObjectStore
  let dispose: () => Promise<void>
  let lists: string[]
  beforeEach(async () => {
    const temporary = await temporaryStore()
    dispose = temporary.dispose
    const inner = kind === 'a store with the verbs alone' ? withoutAbilities(temporary.store) : temporary.store
    lists = []
    const list: ObjectStore['list'] = (prefix, options) => {
      lists.push(prefix)
      return inner.list(prefix, options)
    }
    // A proxy: abilities are asked for by name, and private members need the store itself.
    store = new Proxy(inner, {
      get: (target, name) => {
        const member: unknown = name === 'list' ? list : Reflect.get(target, name, target)
        return typeof member === 'function' ? (member.bind(target) as unknown) : member
      },
    })
  })
  afterEach(() => dispose())

  const begin = (id: string) => new Leases(store).create(id, { job: { kind: 'load', id }, request: {} })
  const marks = async (): Promise<string[]> => {
    const found: string[] = []
    for await (const { key } of listAll(store, PREFIX.used)) if (key !== keys.allUsedMarked) found.push(key)
    return found
  }
  const taken = { code: 'exists' }

  it('are refused, whether or not bytes are left, and no upload lists', async () => {
    await new UsedIds(store).markAll()
    lists = []
    for (const id of ['a', 'b']) await begin(id)
    await expect(begin('a')).rejects.toMatchObject(taken)
    await new Leases(store).end('a')
    await store.put(freshDataKey('b'), Buffer.from('x'))
    await new Leases(store).end('b')
    for (const id of ['a', 'b']) await expect(begin(id)).rejects.toMatchObject(taken)
    expect(await new Leases(store).get('a')).toBeUndefined()
    expect(lists).toEqual([])
  })

  it('of a store of an older version are found by their bytes until they are marked, and by their marks then', async () => {
    const bytes = Buffer.from('a blob of an image that is there')
    for (const id of ['old', 'older']) await store.put(freshDataKey(id), bytes)
    await expect(begin('old')).rejects.toMatchObject(taken)
    await begin('new')
    expect(lists).toEqual(['data/old/', 'data/new/'])
    await new UsedIds(store).markAll()
    lists = []
    for (const id of ['old', 'older', 'new']) await expect(begin(id)).rejects.toMatchObject(taken)
    await new UsedIds(store).markAll()
    expect(lists).toEqual([])
    expect(await marks()).toEqual(['new', 'old', 'older'].map(keys.usedId))
  })

  it('name their leases, and stay while those live or a blob has bytes of them', async () => {
    const leases = new Leases(store)
    const bytes = randomBytes(100)
    for (const id of ['kept', 'gone']) {
      await leases.create(`${id}-lease`, { job: { kind: 'load', id }, request: {} })
      expect(await leases.ofRequest(id)).toMatchObject({ id: `${id}-lease` })
    }
    await new BlobStore(store).add(digestOf(bytes), bytes, 'kept-lease')
    const collect = async (referred: boolean) =>
      new Collector(store).collect({
        dryRun: false,
        references: async function* () {
          if (referred) yield await Promise.resolve(digestOf(bytes))
        },
      })
    const all = ['gone', 'kept'].map(keys.usedId)
    const stay = kind === 'a store with the verbs alone'
    await collect(true)
    expect(await marks()).toEqual(all)
    for (const id of ['kept', 'gone']) await leases.end(`${id}-lease`)
    await collect(true)
    expect(await marks()).toEqual(stay ? all : [keys.usedId('kept')])
    await collect(false)
    expect(await marks()).toEqual(stay ? all : [])
  })

  it('are those that a client chose: a lease that a service makes for itself has no mark', async () => {
    const leases = new Leases(store)
    for (const kind of ['tag', 'push', 'hold'] as const) {
      const id = randomUUID()
      const run = await leases.create(id, { job: { kind, id }, request: {} })
      expect(await leases.idOf(id)).toBe(id)
      await expect(leases.create(id, { job: { kind, id }, request: {} })).rejects.toMatchObject(taken)
      await leases.endBy(run, 'done')
    }
    expect(await marks()).toEqual([])
    await leases.create(randomUUID(), { job: { kind: 'load', id: 'chosen' }, request: {} })
    expect(await marks()).toEqual([keys.usedId('chosen')])
  })

  it('stay while bytes of theirs do, and go behind them where the store can', async () => {
    const blobs = new BlobStore(store)
    const bytes = randomBytes(100)
    for (const id of ['live', 'kept', 'gone']) await begin(id)
    await blobs.add(digestOf(bytes), bytes, 'kept')
    await store.put(freshDataKey('gone'), bytes)
    for (const id of ['kept', 'gone']) await new Leases(store).end(id)
    const collect = async (referred: boolean, dryRun = false) =>
      (
        await new Collector(store).collect({
          dryRun,
          references: async function* () {
            if (referred) yield await Promise.resolve(digestOf(bytes))
          },
        })
      ).report
    const foretold = await collect(true, true)
    expect(await collect(true)).toEqual(foretold)
    const stay = kind === 'a store with the verbs alone'
    expect(await marks()).toEqual((stay ? ['gone', 'kept', 'live'] : ['kept', 'live']).map(keys.usedId))
    await expect(begin('kept')).rejects.toMatchObject(taken)
    await new Leases(store).end('live')
    await collect(false)
    expect(await marks()).toEqual(stay ? ['gone', 'kept', 'live'].map(keys.usedId) : [])
  })
})
