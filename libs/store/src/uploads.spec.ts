import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { PREFIX } from './keys.js'
import type { ObjectStore } from './object-store.js'
import { temporaryStore, withoutAbilities } from './testing/temporary-store.js'
import { z } from 'zod'
import { Records } from './records.js'
import { Uploads } from './uploads.js'

const job = { kind: 'load', id: 'j' }

describe.each(['a store with a lock of its own', 'a store with the verbs alone'])('Uploads on %s', (kind) => {
  let store: ObjectStore
  let dispose: () => Promise<void>
  let uploads: Uploads
  beforeEach(async () => {
    const temporary = await temporaryStore()
    dispose = temporary.dispose
    store = kind === 'a store with the verbs alone' ? withoutAbilities(temporary.store) : temporary.store
    uploads = new Uploads(store)
  })
  afterEach(() => dispose())
  const live = async () => {
    const ids: string[] = []
    for await (const { id } of uploads.listLive()) ids.push(id)
    return ids
  }

  it('live from create to end', async () => {
    await uploads.create('u1', { job, request: { name: 'a:1' } })
    await uploads.create('u2', { job, request: {}, state: 'received', listing: 'data/u2/listing' })
    await expect(uploads.create('u1', { job, request: {} })).rejects.toMatchObject({ code: 'job_exists' })
    expect(await uploads.get('u1')).toMatchObject({ id: 'u1', state: 'receiving', job, request: { name: 'a:1' } })
    expect(await live()).toEqual(['u1', 'u2'])
    await uploads.end('u1')
    await uploads.end('u1')
    expect(await uploads.get('u1')).toBeUndefined()
    expect(await live()).toEqual(['u2'])
    expect((await store.list(PREFIX.uploads)).objects).toHaveLength(1)
  })

  it('go forward only', async () => {
    const run = await uploads.create('u', { job, request: {} })
    await uploads.update(run, (upload) => ({ ...upload, state: 'received', listing: 'data/u/listing' }))
    expect((await uploads.update(run, (upload) => ({ ...upload, state: 'committing' }))).listing).toBe('data/u/listing')
    await expect(uploads.update(run, (upload) => ({ ...upload, state: 'receiving' }))).rejects.toMatchObject({
      code: 'internal',
    })
  })

  it('show a heartbeat to an observer, who ends only what is silent', async () => {
    const run = await uploads.create('u', { job, request: {} })
    const before = (await uploads.get('u'))!
    await uploads.touch(run)
    const after = (await uploads.get('u'))!
    expect(after).toEqual({ ...before, etag: after.etag })
    expect(after.etag).not.toBe(before.etag)
    expect(await uploads.abandon('u', before.etag)).toBe(false)
    expect(await uploads.abandon('u', after.etag)).toBe(true)
    expect(await uploads.abandon('u', after.etag)).toBe(false)
    expect((await store.list(PREFIX.uploads)).objects).toEqual([])
    await expect(uploads.touch(run)).rejects.toMatchObject({ code: 'upload_interrupted' })
  })

  it('belong to the run that began last', async () => {
    const first = await uploads.create('u', { job, request: {}, state: 'received' })
    const { run: second, upload } = await uploads.begin('u')
    expect(upload).toMatchObject({ state: 'received', request: {} })
    for (const late of [
      () => uploads.touch(first),
      () => uploads.announce(first, 'images/a/_tags/1'),
      () => uploads.named(first, {}),
    ]) {
      await expect(late()).rejects.toMatchObject({ code: 'upload_interrupted' })
    }
    for (const as of ['done', 'failed'] as const) expect(await uploads.endBy(first, as)).toBe(false)
    expect(await live()).toEqual(['u'])
    expect(await uploads.endBy(second, 'done')).toBe(true)
    expect(await uploads.endBy(second, 'done')).toBe(true)
    expect(await live()).toEqual([])
    await expect(uploads.begin('u')).rejects.toMatchObject({ code: 'upload_interrupted' })
  })

  it.each(['begins it again', 'abandons it'])(
    'whoever %s makes what was announced and not yet written fail',
    async (how) => {
      const [written, absent] = ['images/a/_tags/1', 'images/a/_tags/2']
      const names = new Records(store, z.object({ n: z.number() }), 'the record')
      await names.write(written, { n: 1 }, undefined)
      for (const key of [written, absent]) {
        const late = await uploads.create(`u-${key.at(-1)!}`, { job, request: {}, state: 'committing' })
        const seen = await names.findToWrite(key)
        await uploads.announce(late, key)
        if (how === 'begins it again') await uploads.begin(late.upload)
        else expect(await uploads.abandon(late.upload, (await uploads.get(late.upload))!.etag)).toBe(true)
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
    const run = await uploads.create('u', { job, request: {}, state: 'committing' })
    await uploads.named(run, { images: 'x'.repeat(length) })
    const { upload } = await uploads.begin('u')
    expect(upload.state).toBe('named')
    expect(await uploads.resultOf(upload)).toEqual({ images: 'x'.repeat(length) })
  })

  it('leave an id to the one who has it, and to what it has brought', async () => {
    await uploads.create('u', { job, request: { name: 'a:1' } })
    await expect(uploads.create('u', { job, request: {} })).rejects.toMatchObject({ code: 'job_exists' })
    expect(await uploads.get('u')).toMatchObject({ request: { name: 'a:1' } })
    await store.put('data/u/1', Buffer.from('a blob of an image that is there'))
    await uploads.end('u')
    await expect(uploads.create('u', { job, request: {} })).rejects.toMatchObject({ code: 'job_exists' })
    expect(await uploads.get('u')).toBeUndefined()
  })

  it('of older versions have no run, and are taken over as any', async () => {
    const old = { rev: 'r', value: { state: 'committing', job, listing: 'data/u/listing', request: {} } }
    await store.create('uploads/u', Buffer.from(JSON.stringify(old)))
    const { run, upload } = await uploads.begin('u')
    expect(upload).toMatchObject(old.value)
    await uploads.announce(run, 'images/a/_tags/1')
    expect(await uploads.endBy(run, 'failed')).toBe(true)
  })
})
