import { randomBytes, randomUUID } from 'node:crypto'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { partialKeys, S3_SERVERS, TestS3, whyNoTestS3 } from '../testing/test-s3.js'
import { S3Store } from './s3-store.js'

const MIB = 1024 * 1024

describe.each(S3_SERVERS)('S3Store and a %s that vanishes', (server) => {
  const why =
    whyNoTestS3(server) ??
    (process.env['STRATA_TEST_S3'] === undefined ? undefined : 'the server that STRATA_TEST_S3 names cannot be killed')
  if (why !== undefined) {
    it('says so, and goes on when it is back', (context) => context.skip(why))
    return
  }
  let s3: TestS3
  let store: S3Store
  beforeEach(async () => {
    s3 = await TestS3.start(server)
    store = await S3Store.open(s3.config())
  })
  afterEach(async () => {
    await store.close()
    await s3.remove()
  })
  const partial = (): Promise<string[]> => partialKeys(store)

  it('says so at every verb, and works again when it is back', async () => {
    const etag = await store.create('uploads/x', Buffer.from('x'))
    await s3.kill()
    const told = {
      code: 'store_unavailable',
      message: `the S3 server at ${s3.endpoint} cannot be reached (ECONNREFUSED)`,
    }
    const works = [
      store.stat('uploads/x'),
      store.get('uploads/x'),
      store.read('uploads/x', 1),
      store.put('data/u/x', Buffer.from('x')),
      store.create('uploads/y', Buffer.from('y')),
      store.replace('uploads/x', Buffer.from('y'), etag!),
      store.list(''),
      store.delete(['data/u/x']),
    ]
    await Promise.all(works.map((work) => expect(work).rejects.toMatchObject(told)))
    await s3.start()
    expect(await store.replace('uploads/x', Buffer.from('y'), etag!)).toBeDefined()
    expect((await store.list('')).objects.map(({ key }) => key)).toEqual(['uploads/x'])
  })

  it('puts to the end what a server that is started again interrupted', async () => {
    const key = `data/u/${randomUUID()}`
    const bytes = randomBytes(80 * MIB)
    async function* source() {
      yield bytes.subarray(0, 50 * MIB)
      await expect.poll(partial).toEqual([key])
      await s3.kill()
      // It comes back while parts wait for it: the next chunk may be asked for only then.
      const back = s3.start()
      yield bytes.subarray(50 * MIB, 70 * MIB)
      await back
      yield bytes.subarray(70 * MIB)
    }
    await store.put(key, source())
    expect((await store.read(key, bytes.length))?.bytes.equals(bytes)).toBe(true)
    expect(await partial()).toEqual([])
  })

  it('leaves what a sweep finds, when it does not come back in time', async () => {
    const key = `data/u/${randomUUID()}`
    async function* source() {
      // More than the driver holds, so that parts have been sent.
      yield randomBytes(90 * MIB)
      await expect.poll(partial).toEqual([key])
      await s3.kill()
      for (;;) yield randomBytes(MIB)
    }
    await expect(store.put(key, source())).rejects.toMatchObject({ code: 'store_unavailable' })
    await s3.start()
    expect(await partial()).toEqual([key])
    for await (const upload of store.listPartial()) {
      expect(await upload.size()).toBeGreaterThan(0)
      expect(upload.startedAt.getTime()).toBeGreaterThan(Date.now() - 600_000)
      await upload.abort()
      await upload.abort()
    }
    expect(await partial()).toEqual([])
    expect((await store.list('')).objects).toEqual([])
    if (server === 'minio') expect(readdirSync(join(s3.folder!, '.minio.sys/multipart'))).toEqual([])
  })
})
