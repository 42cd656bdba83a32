import { randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { listAll } from '../objects/object-store.js'
import { continuedPutsSuite } from '../testing/continued-puts-suite.js'
import { objectStoreSuite } from '../testing/object-store-suite.js'
import { partialKeys, S3_SERVERS, TestS3, whyNoTestS3 } from '../testing/test-s3.js'
import { S3Store } from './s3-store.js'

describe.each(S3_SERVERS)('%s', (server) => {
  const why = whyNoTestS3(server)
  if (why !== undefined) {
    it('keeps the laws of the object store', (context) => context.skip(why))
    return
  }
  let s3: TestS3
  let bucket = 0
  beforeAll(async () => {
    s3 = await TestS3.start(server)
  })
  afterAll(() => s3.remove())

  it('puts a stream in parts that grow, and what was cut is whole again', async () => {
    const MIB = 1024 * 1024
    const store = await S3Store.open(s3.config({ bucket: `${s3.bucket}-${bucket++}` }), {
      plan: (at) => (5 + 6 * at) * MIB,
    })
    const bytes = randomBytes(40 * MIB + 7)
    const pieces = Readable.from(
      (function* () {
        for (let at = 0; at < bytes.length;) yield bytes.subarray(at, (at += 1 + Math.floor(Math.random() * 3 * MIB)))
      })(),
    )
    // 5, 11, 17 MiB and the rest: the tag of an object made of parts ends in how many there were.
    for (const source of [pieces, bytes])
      expect(await store.put('data/u/grown', source)).toMatchObject({
        size: bytes.length,
        etag: expect.stringMatching(/-4$/) as string,
      })
    expect((await store.read('data/u/grown', bytes.length))?.bytes.equals(bytes)).toBe(true)
    expect(await partialKeys(store)).toEqual([])
    await store.delete(['data/u/grown'])
    await store.close()
  })

  const make = async () => {
    const config = s3.config({ bucket: `${s3.bucket}-${bucket++}` })
    const store = await S3Store.open(config)
    return {
      store,
      other: () => S3Store.open(config),
      leftovers: () => partialKeys(store),
      dispose: async () => {
        for await (const { key } of listAll(store, '')) await store.delete([key])
        await store.close()
      },
    }
  }
  objectStoreSuite('s3', make)
  continuedPutsSuite('s3', make)
})
