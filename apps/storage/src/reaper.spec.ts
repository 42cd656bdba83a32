import { StrataError } from '@strata/base'
import type { Journal, NodeDirectory, Producer } from '@strata/queue'
import { BlobStore, freshDataKey, keys, Leases, listAll, type ObjectStore } from '@strata/store'
import { temporaryStore } from '@strata/store/testing'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Reaper } from './reaper.js'

const LEASES = ['first', 'second', 'third']

describe('a sweep', () => {
  let store: ObjectStore
  let dispose: () => Promise<void>
  beforeEach(async () => {
    ;({ store, dispose } = await temporaryStore())
  })
  afterEach(() => dispose())

  /** The store where what this lease brought cannot be listed. */
  const withoutListOf = (lease: string): ObjectStore =>
    new Proxy(store, {
      get: (target, name) => {
        const member: unknown = Reflect.get(target, name, target)
        if (typeof member !== 'function') return member
        return (...args: unknown[]): unknown => {
          if (name === 'list' && args[0] === keys.dataOf(lease)) throw new Error(`no list of ${lease}`)
          return (member as (...args: unknown[]) => unknown).apply(target, args)
        }
      },
    })

  it('clears and tells of the others if one lease cannot be cleared, and fails then', async () => {
    const leases = new Leases(store)
    for (const id of LEASES) {
      await leases.create(id, { job: { kind: 'load', id }, request: {} })
      await store.put(freshDataKey(id), Buffer.from(id))
    }
    const told: string[] = []
    const journal: Pick<Journal, 'fail' | 'list'> = {
      fail: (id) => Promise.resolve(told.push(id) > 0),
      list: () => Promise.resolve([]),
    }
    const reaper = new Reaper(
      leases,
      new BlobStore(withoutListOf('second')),
      journal as Journal,
      {} as Producer,
      {} as NodeDirectory,
      { silenceMs: 0 },
    )
    await expect(reaper.reap()).rejects.toThrow('no list of second')
    expect(told.sort()).toEqual(['first', 'third'])
    const left = await Promise.all(
      LEASES.map(async (id) => {
        for await (const _ of listAll(store, keys.dataOf(id))) return id
        return undefined
      }),
    )
    expect(left.filter((id) => id !== undefined)).toEqual(['second'])
  })

  it('does not look for each lease again while the store is away', async () => {
    for (const id of LEASES) await new Leases(store).create(id, { job: { kind: 'load', id }, request: {} })
    const blobs = new BlobStore(store)
    const looks = vi.spyOn(blobs, 'deleteUnused').mockRejectedValue(new StrataError('store_unavailable', 'away'))
    const journal = { list: () => Promise.resolve([]) } as unknown as Journal
    const reaper = new Reaper(new Leases(store), blobs, journal, {} as Producer, {} as NodeDirectory, { silenceMs: 0 })
    await expect(reaper.reap()).rejects.toMatchObject({ code: 'store_unavailable' })
    expect(looks).toHaveBeenCalledTimes(1)
  })
})
