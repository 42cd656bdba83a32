import { S3Store, TestS3, whyNoTestS3 } from '@strata/store/testing'
import { it } from 'vitest'
import { storeCallsSuite } from '../testing/store-calls-suite.js'

const why = whyNoTestS3('minio')
if (why !== undefined) it('each operation makes the same store calls on MinIO', (context) => context.skip(why))
else
  storeCallsSuite(
    'minio',
    async () => {
      const s3 = await TestS3.start('minio', '/var/tmp')
      const store = await S3Store.open(s3.config())
      return {
        store,
        dispose: async () => {
          await store.close()
          await s3.remove()
        },
      }
    },
    // More than a page of a list has (1,000), and each is some ten requests.
    { few: 10, many: 1_100, joined: 6 },
  )
