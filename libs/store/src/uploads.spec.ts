import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { PREFIX } from './keys.js'
import type { ObjectStore } from './object-store.js'
import { temporaryStore, withoutAbilities } from './testing/temporary-store.js'
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
    await uploads.create('u', { job, request: {} })
    await uploads.update('u', (upload) => ({ ...upload, state: 'received', listing: 'data/u/listing' }))
    expect((await uploads.update('u', (upload) => ({ ...upload, state: 'committing' }))).listing).toBe('data/u/listing')
    await expect(uploads.update('u', (upload) => ({ ...upload, state: 'receiving' }))).rejects.toMatchObject({ code: 'internal' })
  })

  it('show a heartbeat to an observer, who ends only what is silent', async () => {
    await uploads.create('u', { job, request: {} })
    const before = (await uploads.get('u'))!
    await uploads.touch('u')
    const after = (await uploads.get('u'))!
    expect(after).toEqual({ ...before, etag: after.etag })
    expect(after.etag).not.toBe(before.etag)
    expect(await uploads.abandon('u', before.etag)).toBe(false)
    expect(await uploads.abandon('u', after.etag)).toBe(true)
    expect(await uploads.abandon('u', after.etag)).toBe(false)
    expect((await store.list(PREFIX.uploads)).objects).toEqual([])
    await expect(uploads.touch('u')).rejects.toMatchObject({ code: 'upload_interrupted' })
  })

  it('are never abandoned once they commit', async () => {
    await uploads.create('u', { job, request: {}, state: 'committing' })
    expect(await uploads.abandon('u', (await uploads.get('u'))!.etag)).toBe(false)
    expect(await live()).toEqual(['u'])
  })
})
