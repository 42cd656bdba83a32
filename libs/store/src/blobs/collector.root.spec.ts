import { afterAll, beforeAll, describe, it } from 'vitest'
import { listAll } from '../objects/object-store.js'
import { S3Store } from '../s3/s3-store.js'
import { blobSuite } from '../testing/blob-suite.js'
import { collectorSuite } from '../testing/collector-suite.js'
import { S3_SERVERS, TestS3, whyNoTestS3 } from '../testing/test-s3.js'

describe.each(S3_SERVERS)('%s', (server) => {
  const why = whyNoTestS3(server)
  if (why !== undefined) {
    it('is collected', (context) => context.skip(why))
    return
  }
  let s3: TestS3
  let bucket = 0
  beforeAll(async () => {
    s3 = await TestS3.start(server)
  })
  afterAll(() => s3.remove())

  const make = async () => {
    const store = await S3Store.open(s3.config({ bucket: `${s3.bucket}-${bucket++}` }))
    return {
      store,
      leftovers: () => Promise.resolve([]),
      dispose: async () => {
        for await (const { key } of listAll(store, '')) await store.delete([key])
        await store.close()
      },
    }
  }
  collectorSuite('s3', make, { hasPartial: true })
  blobSuite('s3', make)
})
