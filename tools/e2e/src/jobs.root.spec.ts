import { randomUUID } from 'node:crypto'
import { PassThrough, Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { Redis } from 'ioredis'
import { file, header, openFixture, ZEROS } from '@strata/archive/testing'
import type { JobView } from '@strata/api'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { objectsOf, settledStore } from './testing/store-state.js'
import { StrataUnderTest, until } from './testing/strata.js'

let strata: StrataUnderTest
beforeAll(async () => {
  strata = await StrataUnderTest.start({
    groups: [['gateway', 'storage', 'runtime'], ['extractor'], ['ingest']],
    environment: { STRATA_PREPARE: 'false', STRATA_SWEEP_INTERVAL_MS: '200', STRATA_UPLOAD_SILENCE_MS: '7000' },
  })
})
afterAll(async () => {
  await strata.dispose()
})

const job = async (id: string): Promise<JobView> => (await strata.request('GET', `/v1/jobs/${id}`)).json<JobView>()
const reaches = (id: string, state: string, step?: string): Promise<void> =>
  until(
    async () => {
      const now = await job(id)
      return now.state === state && (step === undefined || now.step === step)
    },
    `job ${id} to be ${state} ${step ?? ''}`,
  )
const cancel = (id: string) => strata.request('DELETE', `/v1/jobs/${id}`)

/** The events of a job until its end. */
async function follow(id: string): Promise<{ event: string; data: JobView }[]> {
  const text = (await buffer(await strata.open('GET', `/v1/jobs/${id}/events`))).toString()
  return text
    .split('\n\n')
    .filter((block) => block.startsWith('id:'))
    .map((block) => {
      const [, event, data] = /^id: .*\nevent: (\w+)\ndata: (.*)$/.exec(block) ?? []
      return { event: event ?? '', data: JSON.parse(data ?? '{}') as JobView }
    })
}

/** A body that comes as the test sends it. */
function slowBody(size: number): { stream: PassThrough; begin(): void; more(): void } {
  const stream = new PassThrough()
  stream.on('error', () => undefined)
  return {
    stream,
    begin: () => void stream.write(header({ name: 'big', size })),
    more: () => void stream.write(Buffer.alloc(100_000)),
  }
}

describe('a load as a job', () => {
  it('has the id that the client chose, and a used one is refused, with the answer seen', async () => {
    const id = randomUUID()
    await strata.load(openFixture('docker28-odd.tar'), `?job=${id}`)
    expect(await job(id)).toMatchObject({
      id,
      kind: 'load',
      state: 'completed',
      result: { images: [{ names: ['fx/odd:3'] }] },
    })
    // Ten megabytes are on their way when the answer comes.
    const again = await strata.request('POST', `/v1/images?job=${id}`, openFixture('docker28-odd.tar'))
    expect(again.json()).toMatchObject({ status: 409, code: 'job_exists' })
    expect((await job(id)).state).toBe('completed')
    const { jobs } = (await strata.request('GET', '/v1/jobs?limit=5')).json<{ jobs: JobView[] }>()
    expect(jobs.find(({ kind }) => kind === 'load')).toMatchObject({ id })
  })

  it('?wait=false answers 202 with its place', async () => {
    const answer = await strata.request('PUT', '/v1/images?wait=false', openFixture('docker20-odd.tar'))
    expect({ status: answer.status, length: answer.bytes.length }).toEqual({ status: 202, length: 0 })
    const id = String(answer.headers.location).replace('/v1/jobs/', '')
    const events = await follow(id)
    expect(events.at(-1)).toMatchObject({ event: 'end', data: { id, state: 'completed', step: 'done' } })
    expect(events.slice(0, -1).every(({ event }) => event === 'progress')).toBe(true)
  })

  it('shows what comes while it comes', async () => {
    const id = randomUUID()
    const body = slowBody(20_000_000)
    const answer = strata.request('POST', `/v1/images?job=${id}`, body.stream, { length: 20_001_536 })
    body.begin()
    await until(async () => {
      body.more()
      return (await job(id)).bytes > 500_000
    }, 'bytes are counted')
    expect(await job(id)).toMatchObject({ kind: 'load', state: 'receiving', step: 'receiving', total: 20_001_536 })
    const events = follow(id)
    expect((await cancel(id)).status).toBe(202)
    expect((await answer).json()).toMatchObject({ status: 409, code: 'cancelled' })
    const seen = await events
    expect(seen.at(-1)).toMatchObject({ event: 'end', data: { state: 'cancelled', error: { code: 'cancelled' } } })
    await settledStore(strata)
  })

  it('one that never was, and one whose record is no longer kept', async () => {
    expect(await job(randomUUID())).toMatchObject({ status: 404, code: 'job_not_found' })
    const id = randomUUID()
    await strata.load(openFixture('docker20-empty.tar'), `?job=${id}`)
    const redis = new Redis({ path: strata.redisSocket })
    await redis.pexpire(`strata:job:${id}`, 1)
    await until(async () => (await redis.exists(`strata:job:${id}`)) === 0, 'the record expired')
    redis.disconnect()
    expect(await job(id)).toMatchObject({ status: 404, code: 'job_expired' })
    expect((await cancel(id)).json()).toMatchObject({ status: 404, code: 'job_expired' })
    expect(
      (await strata.request('POST', `/v1/images?job=${id}`, Readable.from([file('x', ''), ZEROS]))).json(),
    ).toMatchObject({ code: 'job_exists' })
  })
})

describe('cancelled', () => {
  it('while it waits for its layers', async () => {
    await strata.stop('SIGTERM', 'extractor')
    const before = await objectsOf(strata, 'images/')
    const id = randomUUID()
    const answer = strata.request('POST', `/v1/images?job=${id}`, openFixture('skopeo-oci-zstd.tar'))
    await reaches(id, 'active', 'extracting')
    expect((await cancel(id)).status).toBe(202)
    await reaches(id, 'cancelled')
    expect((await answer).json()).toMatchObject({ status: 409, code: 'cancelled' })
    await settledStore(strata)
    expect(await objectsOf(strata, 'images/')).toEqual(before)
    await strata.startGroup(['extractor'])
    await strata.ready()
    expect((await strata.load(openFixture('skopeo-oci-zstd.tar'))).images).toMatchObject([{ names: ['fx/odd:3'] }])
  })

  it('while it waits for a worker', async () => {
    await strata.stop('SIGTERM', 'ingest')
    const id = randomUUID()
    await strata.request('POST', `/v1/images?wait=false&job=${id}`, openFixture('docker20-multi.tar.gz'))
    expect((await job(id)).state).toBe('waiting')
    await cancel(id)
    expect(await job(id)).toMatchObject({ state: 'cancelled' })
    await strata.startGroup(['ingest'])
    await settledStore(strata)
    expect((await strata.images()).flatMap(({ names }) => names)).not.toContain('fx/busybox:1')
  })

  it('when it is over: nothing changes', async () => {
    const id = randomUUID()
    await strata.load(openFixture('docker20-empty.tar'), `?job=${id}`)
    expect((await cancel(id)).json()).toMatchObject({ state: 'completed' })
    expect((await job(id)).state).toBe('completed')
  })
})
