import { afterAll, beforeAll, describe, it } from 'vitest'
import { listAll } from '../object-store.js'
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

  objectStoreSuite('s3', async () => {
    const store = await S3Store.open(s3.config({ bucket: `${s3.bucket}-${bucket++}` }))
    return {
      store,
      leftovers: () => partialKeys(store),
      dispose: async () => {
        for await (const { key } of listAll(store, '')) await store.delete([key])
        await store.close()
      },
    }
  })
})
