import { randomBytes, randomUUID } from 'node:crypto'
import { PassThrough, Readable } from 'node:stream'
import { gzipSync } from 'node:zlib'
import type { ContainerView, JobView } from '@strata/api'
import { file, header, makeLayer, ZEROS } from '@strata/archive/testing'
import { Redis } from 'ioredis'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadBusybox } from '../testing/busybox-image.js'
import { packedImage } from '../testing/packed-image.js'
import { settledStore } from '../testing/store-state.js'
import { StrataUnderTest, until } from '../testing/strata.js'
import { SERVICES } from '../testing/topology.js'

let strata: StrataUnderTest
let redis: Redis
beforeAll(async () => {
  strata = await StrataUnderTest.start({
    topology: 'processes',
    groups: SERVICES.map((service) => [service]),
    environment: { STRATA_PREPARE: 'false', STRATA_DRAIN_MS: '60000' },
  })
  redis = new Redis({ path: strata.redisSocket })
  await loadBusybox(strata, 't/box')
})
afterAll(async () => {
  redis.disconnect()
  await strata.dispose()
})

const active = (queue: string): Promise<number> => redis.llen(`strata-q:${queue}:active`)
const job = async (id: string): Promise<JobView> => (await strata.request('GET', `/v1/jobs/${id}`)).json<JobView>()
const startAgain = async (
  service: (typeof SERVICES)[number],
  environment: Record<string, string> = {},
): Promise<void> => {
  await strata.startGroup([service], false, { environment })
  await strata.ready()
}

/** An archive that comes as the test sends it. */
function slowArchive(): { readonly stream: PassThrough; begin(): void; end(): void } {
  const stream = new PassThrough()
  stream.on('error', () => undefined)
  const size = 2_000_000
  return {
    stream,
    begin: () => void stream.write(Buffer.concat([header({ name: 'unused', size }), Buffer.alloc(size / 2)])),
    end: () =>
      void stream.end(Buffer.concat([Buffer.alloc(size / 2 + ((512 - (size % 512)) % 512)), file('none', ''), ZEROS])),
  }
}

describe('a gateway that is told to end', () => {
  const begun = async (id: string): Promise<{ archive: ReturnType<typeof slowArchive>; answer: Promise<unknown> }> => {
    const archive = slowArchive()
    const answer = strata.request('POST', `/v1/images?job=${id}`, archive.stream).catch((error: unknown) => error)
    archive.begin()
    await until(async () => (await job(id).catch(() => undefined))?.state === 'receiving', 'it is taken in')
    return { archive, answer }
  }

  it('takes no one in, and answers those who are', async () => {
    const { archive, answer } = await begun(randomUUID())
    const ended = strata.stop('SIGTERM', 'gateway')
    await expect
      .poll(() => strata.health('gateway', 'ready'))
      .toMatchObject({ status: 503, reasons: ['the service is ending and takes nothing new'] })
    expect(await strata.health('gateway', 'live')).toMatchObject({ status: 200 })
    await expect
      .poll(() =>
        strata.request('GET', '/v1/version').then(
          () => 'taken in',
          () => 'not taken in',
        ),
      )
      .toBe('not taken in')
    archive.end()
    // All of it was read, and looked at by ingest: an archive without an image.
    expect(await answer).toMatchObject({ status: 400 })
    expect(await ended).toEqual([0])
    await startAgain('gateway')
  })

  it('awaits them so long, and no longer', async () => {
    await strata.stop('SIGTERM', 'gateway')
    await startAgain('gateway', { STRATA_DRAIN_MS: '300' })
    const id = randomUUID()
    const { answer } = await begun(id)
    expect(await strata.stop('SIGTERM', 'gateway')).toEqual([0])
    expect(await answer).toBeInstanceOf(Error)
    await startAgain('gateway')
    await until(async () => (await job(id)).state === 'failed', 'the upload is ended')
    expect(await job(id)).toMatchObject({ error: { code: 'upload_interrupted' } })
    await settledStore(strata)
  })

  it('ends at once when it is told a second time', async () => {
    const id = randomUUID()
    const { answer } = await begun(id)
    const pid = strata.pid('gateway')
    const ended = strata.stop('SIGTERM', 'gateway')
    await expect.poll(() => strata.health('gateway', 'ready')).toMatchObject({ status: 503 })
    process.kill(pid, 'SIGINT')
    expect(await ended).toEqual([1])
    expect(await answer).toBeInstanceOf(Error)
    await startAgain('gateway')
    await settledStore(strata)
  })
})

/**
 * What was asked for ends well, and nothing of it was begun twice: each service ends what it has,
 * and the next goes on.
 */
describe('while loads and launches run, there ends well', () => {
  const loads = 6
  const launches = 12
  /** Random bytes, so that no layer is there already. */
  const packed = async (name: string): Promise<Buffer> => {
    const tar = await makeLayer(
      new Map([['big', { content: Buffer.concat([randomBytes(256 * 1024), Buffer.alloc(8 * 1024 * 1024)]) }]]),
    )
    return packedImage(name, [gzipSync(tar, { level: 1 })], [tar])
  }

  it.each(['ingest', 'extractor', 'storage', 'runtime'] as const)('%s', async (service) => {
    const archives = await Promise.all(Array.from({ length: loads }, (_, n) => packed(`t/${service}:${n}`)))
    const loading = archives.map((archive) => strata.request('POST', '/v1/images', Readable.from([archive])))
    const launching = Array.from({ length: launches }, () =>
      strata.request('POST', '/v1/containers', { image: 't/box', command: ['true'] }),
    )
    const queue = { ingest: 'ingest', extractor: 'extract', storage: undefined, runtime: `runtime.${strata.node.id}` }[
      service
    ]
    if (queue !== undefined) await until(async () => (await active(queue)) > 0, `${service} is at work`)
    expect(await strata.stop('SIGTERM', service)).toEqual([0])
    // What it had is done, not left for others to find after a while.
    if (queue !== undefined) expect(await active(queue)).toBe(0)
    await startAgain(service)
    for (const answer of await Promise.all(loading)) expect(answer.status, answer.bytes.toString()).toBe(201)
    const answers = await Promise.all(launching)
    const launched = answers.filter(({ status }) => status === 201)
    // Those that came while no node was there were told so.
    for (const answer of answers)
      if (!launched.includes(answer))
        expect(answer.json(), service).toMatchObject({ code: service === 'runtime' ? 'node_unavailable' : 'none' })
    expect(launched.length).toBeGreaterThan(0)
    for (const answer of launched) {
      const { id } = answer.json<ContainerView>()
      expect((await strata.request('POST', `/v1/containers/${id}/wait`)).json()).toEqual({ exitCode: 0 })
      expect((await strata.request('DELETE', `/v1/containers/${id}`)).status).toBe(204)
    }
    await settledStore(strata)
  })
})
