import { TestS3 } from '@strata/store/testing'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { freePort } from '@strata/store/testing'
import { StrataUnderTest } from '../testing/strata.js'
import { SERVICES } from '../testing/topology.js'

let s3: TestS3
let strata: StrataUnderTest
let url: string
beforeAll(async () => {
  s3 = await TestS3.startOwn('minio', '/var/tmp')
  const listen = `127.0.0.1:${await freePort()}`
  url = `http://${listen}`
  strata = await StrataUnderTest.start({
    topology: 'processes',
    store: s3,
    groups: [['gateway', 'ingest', 'storage', 'extractor'], ['runtime']],
    environment: { STRATA_LISTEN: listen },
  })
})
afterAll(async () => {
  await strata.dispose()
  await s3.remove()
})

const REDIS = 'Redis does not answer'
const STORE = 'the store does not answer'
/** What each service says, and the gateway also to whoever comes by TCP without a token. */
const reasons = async (): Promise<Record<string, readonly string[]>> => {
  const said: Record<string, readonly string[]> = {}
  for (const service of SERVICES) {
    expect(await strata.health(service, 'live')).toMatchObject({ status: 200 })
    const { status, reasons = [] } = await strata.health(service, 'ready')
    expect(status).toBe(reasons.length === 0 ? 200 : 503)
    said[service] = reasons
  }
  const answer = await fetch(`${url}/v1/health/ready`)
  const body = (await answer.json()) as { reasons?: string[] }
  expect([answer.status, Object.keys(body).sort()]).toEqual(
    body.reasons ? [503, ['reasons', 'status']] : [200, ['status']],
  )
  said['tcp'] = body.reasons ?? []
  return said
}
/** What its metrics say. */
const toldOf = async (service: (typeof SERVICES)[number]): Promise<{ isUp: boolean; hasQueues: boolean }> => {
  const text = await strata.metrics(service)
  return {
    isUp: text.includes(`strata_up{service="${service}"} 1\n`),
    hasQueues: text.includes(`strata_queue_jobs{service="${service}"`),
  }
}
const all = (...one: string[]): Record<string, string[]> =>
  Object.fromEntries([...SERVICES, 'tcp'].map((name) => [name, one]))
const isSaid = (expected: Record<string, string[]>): Promise<void> =>
  expect.poll(reasons, { timeout: 30_000 }).toEqual(expected)

it('every service says whether it serves, and what is away', async () => {
  await isSaid(all())
  expect(await (await fetch(`${url}/v1/health/live`)).json()).toEqual({ status: 'live' })

  for (const service of SERVICES) expect(await toldOf(service)).toEqual({ isUp: true, hasQueues: true })

  await strata.redis.stop('SIGKILL')
  await isSaid(all(REDIS))
  for (const service of SERVICES) expect(await toldOf(service)).toEqual({ isUp: false, hasQueues: false })
  await s3.kill()
  await isSaid(all(REDIS, STORE))
  await strata.redis.start()
  await isSaid(all(STORE))
  for (const service of SERVICES) expect(await toldOf(service)).toEqual({ isUp: false, hasQueues: true })
  await s3.start()
  await isSaid(all())
})

it('a gateway says that it has no node', async () => {
  expect(await strata.stop('SIGTERM', 'runtime')).toEqual([0])
  await expect
    .poll(() => strata.health('gateway', 'ready'))
    .toMatchObject({ status: 503, reasons: ['no node is running'] })
  await strata.startGroup(['runtime'])
  await strata.ready()
})

it('a service that finds no store at its start says so and ends', async () => {
  await s3.kill()
  await strata.startGroup(['storage'], false, { name: 'again' })
  await expect
    .poll(() => strata.health('storage', 'ready', 'again').catch(() => undefined), { interval: 20 })
    .toMatchObject({ status: 503, reasons: ['the service is starting'] })
  await expect.poll(() => strata.log, { timeout: 30_000 }).toMatch(/^strata: the S3 server .* cannot be reached/m)
  await expect.poll(async () => strata.stop('SIGTERM', 'again'), { timeout: 30_000 }).toEqual([1])
  await s3.start()
})
