import { randomUUID } from 'node:crypto'
import type { JobView } from '@strata/api'
import { openFixture } from '@strata/archive/testing'
import { TestRedis } from '@strata/queue/testing'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { objectsOf, settledStore } from './testing/store-state.js'
import { StrataUnderTest, until } from './testing/strata.js'
import { unfinishedBody } from './testing/unfinished-body.js'

let strata: StrataUnderTest
let redis: TestRedis
beforeAll(async () => {
  redis = await TestRedis.start()
})
afterEach(async () => {
  await strata.dispose()
})
afterAll(async () => {
  await redis.remove()
})

describe('Redis', () => {
  it('away: every request that needs it is a 503 within 3 s, and all works again by itself when it is back', async () => {
    strata = await StrataUnderTest.start({ environment: { STRATA_REDIS: redis.url } })
    await strata.load(openFixture('docker20-odd.tar'))
    const run = ['run', '--rm', '--entrypoint', '/bin/busybox', 'fx/odd:3', 'echo', 'hello']
    expect((await strata.cli(run)).stdout.toString()).toBe('hello\n')
    await redis.kill()
    const requests: [string, string, (() => unknown)?][] = [
      ['GET', '/v1/jobs'],
      ['GET', `/v1/jobs/${randomUUID()}`],
      ['DELETE', `/v1/jobs/${randomUUID()}`],
      ['GET', '/v1/containers'],
      ['POST', '/v1/containers', () => ({ image: 'fx/odd:3', entrypoint: ['/bin/busybox'], command: ['true'] })],
      ['POST', '/v1/images/fx%2Fodd:3/mount'],
      ['POST', '/v1/images', () => openFixture('docker20-odd.tar')],
      ['GET', '/v1/info'],
      ['GET', '/v1/health/ready'],
    ]
    for (const [method, path, body] of requests) {
      const ask = (signal: AbortSignal) => strata.request(method, path, body?.(), { signal })
      const late = AbortSignal.timeout(3_000)
      const answer = await ask(late).catch((error: unknown) => {
        if (!late.aborted) throw error
        // The machine itself may have been slow: a second request tells.
        return ask(AbortSignal.timeout(3_000))
      })
      expect({ path, status: answer.status }).toEqual({ path, status: 503 })
      if (path !== '/v1/health/ready') expect(answer.json()).toMatchObject({ code: 'queue_unavailable' })
    }
    expect((await strata.request('GET', '/v1/images')).status).toBe(200)
    expect(await strata.cli(run)).toMatchObject({
      code: 125,
      stderr: expect.stringContaining('Redis does not answer') as string,
    })
    await redis.start()
    await strata.ready()
    await strata.load(openFixture('docker20-empty.tar'))
    expect((await strata.cli(run)).stdout.toString()).toBe('hello\n')
  })
})

describe('a gateway that dies in the middle of a body', () => {
  it('ends that upload and nothing else: its bytes go, its job says why', async () => {
    strata = await StrataUnderTest.start({
      groups: [['ingest', 'extractor', 'storage', 'runtime'], ['gateway']],
      environment: { STRATA_SWEEP_INTERVAL_MS: '200', STRATA_UPLOAD_SILENCE_MS: '7000' },
    })
    await strata.load(openFixture('docker20-empty.tar'))
    const before = await settledStore(strata)
    const id = randomUUID()
    const job = async (): Promise<JobView> => (await strata.request('GET', `/v1/jobs/${id}`)).json<JobView>()
    const body = unfinishedBody()
    const answer = strata.request('POST', `/v1/images?job=${id}`, body).catch((error: unknown) => error)
    await until(async () => {
      body.write(Buffer.alloc(100_000))
      return (await job()).bytes > 500_000
    }, 'bytes are counted')
    await strata.stop('SIGKILL', 'gateway')
    expect(await answer).toBeInstanceOf(Error)
    expect(await objectsOf(strata, 'uploads/')).toHaveLength(1)
    await strata.startGroup(['gateway'])
    await strata.ready()
    await until(async () => (await job()).state === 'failed', 'the upload is ended')
    expect(await job()).toMatchObject({ error: { code: 'upload_interrupted' } })
    expect(await settledStore(strata)).toEqual(before)
    expect((await strata.images()).map(({ names }) => names)).toEqual([['fx/empty:1']])
  })
})
