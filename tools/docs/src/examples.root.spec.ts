import { TestRedis } from '@strata/queue/testing'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { examples, NEED_MORE, run } from './examples.js'

let redis: TestRedis
beforeAll(async () => {
  redis = await TestRedis.start()
  vi.stubEnv('STRATA_REDIS', redis.url)
})
afterAll(async () => {
  vi.unstubAllEnvs()
  await redis.remove()
})

it.each(examples().filter(({ library }) => NEED_MORE.has(library)))(
  'the example of $library runs and prints what it says',
  async (example) => {
    expect(await run(example)).toEqual(example.prints)
  },
)
