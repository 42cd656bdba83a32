import { digestOf } from '@strata/oci'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { BlobStore } from '../blobs/blobs.js'
import { Collector } from '../blobs/collector.js'
import { keys, PREFIX } from '../keys.js'
import type { ObjectStore } from '../objects/object-store.js'
import { temporaryStore, withoutAbilities } from '../testing/temporary-store.js'
import { z } from 'zod'
import { Records } from '../records.js'
import { Leases, type LiveLease } from './leases.js'
import { UsedIds } from './used-ids.js'

const job = { kind: 'load', id: 'j' } as const

describe.each(['a store with a lock of its own', 'a store with the verbs alone'])('Leases on %s', (kind) => {
  let store: ObjectStore
  let dispose: () => Promise<void>
  let leases: Leases
  beforeEach(async () => {
    const temporary = await temporaryStore()
    dispose = temporary.dispose
    store = kind === 'a store with the verbs alone' ? withoutAbilities(temporary.store) : temporary.store
    leases = new Leases(store)
  })
  afterEach(() => dispose())
  const live = async () => {
    const ids: string[] = []
    for await (const { id } of leases.listLive()) ids.push(id)
    return ids
  }

  it('live from create to end', async () => {
    await leases.create('u1', { job, request: { name: 'a:1' } })
    const other = { ...job, id: 'k' }
    await leases.create('u2', { job: other, request: {}, state: 'received', listing: 'data/u2/listing' })
    await expect(leases.create('u1', { job, request: {} })).rejects.toMatchObject({ code: 'exists' })
    expect(await leases.get('u1')).toMatchObject({ id: 'u1', state: 'receiving', job, request: { name: 'a:1' } })
    expect(await live()).toEqual(['u1', 'u2'])
    await leases.end('u1')
    await leases.end('u1')
    expect(await leases.get('u1')).toBeUndefined()
    expect(await live()).toEqual(['u2'])
    expect((await store.list(PREFIX.leases)).objects).toHaveLength(1)
  })

  it('are read again if they have changed, and their ids need no reading', async () => {
    await leases.create('u1', { job, request: {} })
    const run = await leases.create('u2', { job: { ...job, id: 'k' }, request: {} })
    const reads: string[] = []
    const read: ObjectStore['read'] = async (key, maxBytes) => {
      reads.push(key)
      return store.read(key, maxBytes)
    }
    const counted = new Leases({ ...withoutAbilities(store), read })
    const look = async (known?: ReadonlyMap<string, LiveLease>) => {
      const found = new Map<string, LiveLease>()
      for await (const lease of counted.listLive(known ? { known } : {})) found.set(lease.id, lease)
      return found
    }
    const first = await look()
    expect(reads.splice(0)).toEqual(['u1', 'u2'].map(keys.lease))
    expect(await look(first)).toEqual(first)
    expect(reads.splice(0)).toEqual([])
    await leases.touch(run)
    expect((await look(first)).get('u2')).toEqual(await leases.get('u2'))
    expect(reads.splice(0)).toEqual([keys.lease('u2')])
    await leases.end('u1')
    expect(await counted.liveIds()).toEqual(new Set(['u2']))
    expect(reads).toEqual([])
  })

  it('go forward only', async () => {
    const run = await leases.create('u', { job, request: {} })
    await leases.update(run, (upload) => ({ ...upload, state: 'received', listing: 'data/u/listing' }))
    expect((await leases.update(run, (upload) => ({ ...upload, state: 'committing' }))).listing).toBe('data/u/listing')
    await expect(leases.update(run, (upload) => ({ ...upload, state: 'receiving' }))).rejects.toMatchObject({
      code: 'internal',
    })
  })

  it('show a heartbeat to an observer, who ends only what is silent', async () => {
    const run = await leases.create('u', { job, request: {} })
    const before = (await leases.get('u'))!
    await leases.touch(run)
    const after = (await leases.get('u'))!
    expect(after).toEqual({ ...before, etag: after.etag })
    expect(after.etag).not.toBe(before.etag)
    expect(await leases.endUnchanged('u', before.etag)).toBe(false)
    expect(await leases.endUnchanged('u', after.etag)).toBe(true)
    expect(await leases.endUnchanged('u', after.etag)).toBe(false)
    expect((await store.list(PREFIX.leases)).objects).toEqual([])
    await expect(leases.touch(run)).rejects.toMatchObject({ code: 'upload_interrupted' })
  })

  it('belong to the run that began last', async () => {
    const first = await leases.create('u', { job, request: {}, state: 'received' })
    const { run: second, lease } = await leases.begin('u')
    expect(lease).toMatchObject({ state: 'received', request: {} })
    for (const late of [
      () => leases.touch(first),
      () => leases.announce(first, 'images/a/_tags/1'),
      () => leases.named(first, {}),
    ]) {
      await expect(late()).rejects.toMatchObject({ code: 'upload_interrupted' })
    }
    for (const as of ['done', 'failed'] as const) expect(await leases.endBy(first, as)).toBe(false)
    expect(await live()).toEqual(['u'])
    expect(await leases.endBy(second, 'done')).toBe(true)
    expect(await leases.endBy(second, 'done')).toBe(true)
    expect(await live()).toEqual([])
    await expect(leases.begin('u')).rejects.toMatchObject({ code: 'upload_interrupted' })
  })

  it.each(['begins it again', 'abandons it'])(
    'whoever %s makes what was announced and not yet written fail',
    async (how) => {
      const [written, absent] = ['images/a/_tags/1', 'images/a/_tags/2']
      const names = new Records(store, z.object({ n: z.number() }), 'the record')
      await names.write(written, { n: 1 }, undefined)
      for (const key of [written, absent]) {
        const id = `u-${key.at(-1)!}`
        const late = await leases.create(id, { job: { ...job, id }, request: {}, state: 'committing' })
        const seen = await names.findToWrite(key)
        await leases.announce(late, key)
        if (how === 'begins it again') await leases.begin(late.lease)
        else expect(await leases.endUnchanged(late.lease, (await leases.get(late.lease))!.etag)).toBe(true)
        expect(await names.write(key, { n: 2 }, seen)).toBeUndefined()
      }
      expect(await names.read(written)).toEqual({ n: 1 })
      expect(await names.read(absent)).toBeUndefined()
    },
  )

  it.each([
    ['small', 10],
    ['large', 100_000],
  ])('keep a %s result once they are named', async (_, length) => {
    const run = await leases.create('u', { job, request: {}, state: 'committing' })
    await leases.named(run, { images: 'x'.repeat(length) })
    const { lease } = await leases.begin('u')
    expect(lease.state).toBe('named')
    expect(await leases.resultOf(lease)).toEqual({ images: 'x'.repeat(length) })
  })

  it('leave an id to the one who has it, and to what it has brought', async () => {
    await leases.create('u', { job, request: { name: 'a:1' } })
    await expect(leases.create('u', { job, request: {} })).rejects.toMatchObject({ code: 'exists' })
    expect(await leases.get('u')).toMatchObject({ request: { name: 'a:1' } })
    await store.put('data/u/1', Buffer.from('a blob of an image that is there'))
    await leases.end('u')
    await expect(leases.create('u', { job, request: {} })).rejects.toMatchObject({ code: 'exists' })
    expect(await leases.get('u')).toBeUndefined()
  })

  it('are found by their requests, each of which one has at a time', async () => {
    await leases.create('first', { job, request: { name: 'a:1' } })
    await expect(leases.create('second', { job, request: {} })).rejects.toMatchObject({ code: 'exists' })
    expect(await live()).toEqual(['first'])
    expect(await leases.idOf(job.id)).toBe('first')
    expect(await leases.ofRequest(job.id)).toMatchObject({ id: 'first', request: { name: 'a:1' } })
    await leases.end('first')
    expect(await leases.idOf(job.id)).toBe('first')
    expect(await leases.ofRequest(job.id)).toBeUndefined()
    expect(await leases.idOf('never-seen')).toBe('never-seen')
  })

  it('are found by their requests again when marks were lost, and so are those of older versions', async () => {
    await leases.create('first', { job, request: {} })
    const old = {
      rev: 'r',
      value: { state: 'received', job: { ...job, id: 'old' }, listing: 'data/old/l', request: {} },
    }
    await store.create('uploads/old', Buffer.from(JSON.stringify(old)))
    expect(await leases.ofRequest('old')).toMatchObject({ id: 'old', state: 'received' })
    await store.delete([keys.usedId(job.id)])
    await new UsedIds(store).markAll()
    for (const [request, lease] of [
      [job.id, 'first'],
      ['old', 'old'],
    ] as const) {
      expect(await leases.ofRequest(request)).toMatchObject({ id: lease })
      const again = { job: { ...job, id: request }, request: {} }
      await expect(leases.create('another', again)).rejects.toMatchObject({ code: 'exists' })
    }
  })

  it('of older versions have no run, and are taken over as any', async () => {
    const old = { rev: 'r', value: { state: 'committing', job, listing: 'data/u/listing', request: {} } }
    await store.create('uploads/u', Buffer.from(JSON.stringify(old)))
    const { run, lease } = await leases.begin('u')
    expect(lease).toMatchObject(old.value)
    await leases.announce(run, 'images/a/_tags/1')
    expect(await leases.endBy(run, 'failed')).toBe(true)
  })

  it('of a kind that a newer version has made are read as such, and keep what they say', async () => {
    const newer = { rev: 'r', value: { state: 'received', job: { kind: 'mirror', id: 'n' }, request: { of: 'a/b' } } }
    await store.create('uploads/n', Buffer.from(JSON.stringify(newer)))
    expect(await leases.get('n')).toMatchObject({ job: { kind: 'unknown', id: 'n' }, request: { of: 'a/b' } })
    expect(await live()).toEqual(['n'])
    expect(await leases.endUnchanged('n', (await leases.get('n'))!.etag)).toBe(true)
  })

  describe('of a push, whose requests come one after the other and nobody in between', () => {
    const bytes = Buffer.from('a layer that a client has pushed')
    const digest = digestOf(bytes)
    const collect = async () =>
      (
        await new Collector(store).collect({
          dryRun: false,
          references: async function* () {
            yield* await Promise.resolve([])
          },
        })
      ).report.blobs.count
    /** The first request, on one gateway: a blob. */
    const first = async () => {
      const run = await leases.create('p', { job: { kind: 'push', id: 'p' }, request: {} })
      await new BlobStore(store).add(digest, bytes, run.lease)
      return run
    }

    it('hold what came for the next request, on whichever gateway, which renews them', async () => {
      const early = await first()
      expect(await collect()).toBe(0)
      const { etag } = (await leases.get('p'))!
      const { run } = await new Leases(store).begin('p')
      expect(await leases.endUnchanged('p', etag)).toBe(false)
      expect(await new BlobStore(store).hold(digest, run.lease)).toBe(true)
      // The first request has had its answer, and changes nothing any more.
      await expect(leases.announce(early, 'images/a/_tags/1')).rejects.toMatchObject({ code: 'upload_interrupted' })
      await leases.announce(run, 'images/a/_tags/1')
      expect(await leases.endBy(run, 'done')).toBe(true)
    })

    it('hold nothing when they have ended, and a request that comes too late is told', async () => {
      await first()
      expect(await leases.endUnchanged('p', (await leases.get('p'))!.etag)).toBe(true)
      expect(await collect()).toBe(1)
      await expect(leases.begin('p')).rejects.toMatchObject({ code: 'upload_interrupted' })
    })
  })
})
