import { StrataError } from '@strata/base'
import { digestOf } from '@strata/oci'
import type { Journal, NodeDirectory, Producer } from '@strata/queue'
import { BlobStore, freshDataKey, keys, Leases, listAll, PREFIX, type ObjectStore } from '@strata/store'
import { temporaryStore } from '@strata/store/testing'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Reaper } from './reaper.js'

const LIMITS = { silenceMs: 0, expiryMs: 3_600_000, holdMs: 3_600_000 }
const LEASES = ['first', 'second', 'third']

describe('a sweep', () => {
  let store: ObjectStore
  let dispose: () => Promise<void>
  beforeEach(async () => {
    ;({ store, dispose } = await temporaryStore())
  })
  afterEach(() => dispose())

  /** The store where what this lease brought cannot be listed, or deleted. Notes all lists. */
  const without = (verb: 'list' | 'delete', lease: string, listed: unknown[]): ObjectStore =>
    new Proxy(store, {
      get: (target, name) => {
        const member: unknown = Reflect.get(target, name, target)
        if (typeof member !== 'function') return member
        return (...args: unknown[]): unknown => {
          if (name === 'list') listed.push(args[0])
          if (name === verb && [args[0]].flat().some((key) => String(key).startsWith(keys.dataOf(lease))))
            throw new Error(`no ${verb} of ${lease}`)
          return (member as (...args: unknown[]) => unknown).apply(target, args)
        }
      },
    })

  it.each(['list', 'delete'] as const)(
    'clears and tells of the others if one lease cannot be cleared: %s',
    async (verb) => {
      const leases = new Leases(store)
      for (const id of LEASES) {
        await leases.create(id, { job: { kind: 'load', id }, request: {} })
        await store.put(freshDataKey(id), Buffer.from(id))
      }
      const told: string[] = []
      const listed: unknown[] = []
      const journal: Pick<Journal, 'fail' | 'list'> = {
        fail: (id) => Promise.resolve(told.push(id) > 0),
        list: () => Promise.resolve([]),
      }
      const reaper = new Reaper(
        leases,
        new BlobStore(without(verb, 'second', listed)),
        journal as Journal,
        {} as Producer,
        {} as NodeDirectory,
        LIMITS,
      )
      await expect(reaper.reap()).rejects.toThrow(`no ${verb} of second`)
      // Whether a blob has what they brought takes a look at every blob: one look for all leases.
      expect(listed.filter((prefix) => prefix === PREFIX.blobs)).toHaveLength(1)
      expect(told.sort()).toEqual(['first', 'third'])
      const left = await Promise.all(
        LEASES.map(async (id) => {
          for await (const _ of listAll(store, keys.dataOf(id))) return id
          return undefined
        }),
      )
      expect(left.filter((id) => id !== undefined)).toEqual(['second'])
    },
  )

  describe('of uploads that were left', () => {
    const bytes = Buffer.from('a layer')
    const digest = digestOf(bytes)
    const journal = { list: () => Promise.resolve([]) } as unknown as Journal
    const [producer, nodes] = [{} as Producer, {} as NodeDirectory]
    /** Sweeps, and gives the calls that were about blob records. */
    const sweep = async (): Promise<unknown[]> => {
      const asked: unknown[] = []
      const watched = new Proxy(store, {
        get: (target, name) => {
          const member: unknown = Reflect.get(target, name, target)
          if (typeof member !== 'function') return member
          return (...args: unknown[]): unknown => {
            if (String(args[0]).startsWith(PREFIX.blobs)) asked.push([name, args[0]])
            return (member as (...args: unknown[]) => unknown).apply(target, args)
          }
        },
      })
      const leases = new Leases(store)
      const limits = { ...LIMITS, silenceMs: 2, expiryMs: 1 }
      const reaper = new Reaper(leases, new BlobStore(watched), journal, producer, nodes, limits)
      // The first sweep sees the lease, and a later one, which does not read it again, ends it.
      do await reaper.reap()
      while ((await leases.liveIds()).size > 0)
      return asked
    }
    const upload = async (id: string, state: 'receiving' | 'committing', request: object): Promise<string> => {
      await new Leases(store).create(id, { job: { kind: 'push', id }, request: { ...request }, state })
      const data = freshDataKey(id)
      await store.put(data, bytes)
      return data
    }

    it('reads no blob record for one that was still receiving', async () => {
      const data = await upload('left', 'receiving', { repository: 'app' })
      expect(await sweep()).toEqual([])
      expect(await store.stat(data)).toBeUndefined()
    })

    it('reads only the record of the blob that it can have become, and keeps its bytes', async () => {
      const data = await upload('closed', 'committing', { repository: 'app', digest })
      await new BlobStore(store).commit(digest, { data, size: bytes.length }, 'closed')
      const unused = await upload('left', 'receiving', { repository: 'app' })
      expect(await sweep()).toEqual([['read', keys.blob(digest)]])
      expect(await new BlobStore(store).read(digest, bytes.length)).toEqual(bytes)
      expect(await store.stat(unused)).toBeUndefined()
    })

    // A cancel takes the digest out of the record before it ends the lease, and may die in between.
    it('looks at every blob for one that was closed and does not say as what', async () => {
      const data = await upload('cancelled', 'committing', {})
      await new BlobStore(store).commit(digest, { data, size: bytes.length }, 'cancelled')
      expect(await sweep()).toContainEqual(['list', PREFIX.blobs])
      expect(await new BlobStore(store).read(digest, bytes.length)).toEqual(bytes)
    })
  })

  it('does not try each lease while the store is away', async () => {
    for (const id of LEASES) await new Leases(store).create(id, { job: { kind: 'load', id }, request: {} })
    const listed: unknown[] = []
    const away = new Proxy(store, {
      get: (target, name) => {
        const member: unknown = Reflect.get(target, name, target)
        if (typeof member !== 'function') return member
        return (...args: unknown[]): unknown => {
          if (name !== 'list') return (member as (...args: unknown[]) => unknown).apply(target, args)
          listed.push(args[0])
          throw new StrataError('store_unavailable', 'away')
        }
      },
    })
    const journal = { list: () => Promise.resolve([]) } as unknown as Journal
    const [producer, nodes] = [{} as Producer, {} as NodeDirectory]
    const reaper = new Reaper(new Leases(store), new BlobStore(away), journal, producer, nodes, LIMITS)
    await expect(reaper.reap()).rejects.toMatchObject({ code: 'store_unavailable' })
    expect(listed).toHaveLength(1)
  })
})
