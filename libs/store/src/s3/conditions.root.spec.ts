import { randomUUID } from 'node:crypto'
import { utimesSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { HostileProxy } from '../testing/hostile-proxy.js'
import { S3_SERVERS, TestS3, whyNoTestS3 } from '../testing/test-s3.js'
import { PROBE_LIFETIME_MS, PROBES } from './conditions.js'
import { S3Client } from './s3-client.js'
import { S3Store } from './s3-store.js'
import { parseList } from './s3-xml.js'

describe.each(S3_SERVERS)('a start on %s', (server) => {
  const why = whyNoTestS3(server)
  if (why !== undefined) {
    it('tries conditional writes', (context) => context.skip(why))
    return
  }
  let s3: TestS3
  let proxy: HostileProxy
  let bucket: string
  beforeAll(async () => {
    s3 = await TestS3.start(server)
  })
  afterAll(() => s3.remove())
  beforeEach(async () => {
    proxy = await HostileProxy.start(s3.endpoint)
    bucket = `b-${randomUUID()}`
    await (await S3Store.open(s3.config({ bucket }))).close()
  })
  afterEach(() => proxy.close())

  const warnings: string[] = []
  const open = () =>
    S3Store.open(s3.config({ bucket, endpoint: proxy.endpoint }), { warn: (message) => warnings.push(message) })
  /** Past the driver, whose lists do not show them. */
  const probes = async (): Promise<string[]> => {
    const client = new S3Client(s3.config({ bucket }))
    try {
      const { text } = await client.send({ method: 'GET', query: { 'list-type': '2', prefix: PROBES } })
      return parseList(text).objects.map(({ key }) => key)
    } finally {
      client.close()
    }
  }

  it('tries them with few requests, also many at once, and leaves nothing', async () => {
    await (await open()).close()
    expect(proxy.requests.length).toBeLessThanOrEqual(6)
    const stores = await Promise.all(Array.from({ length: 8 }, open))
    for (const store of stores) await store.close()
    expect(await probes()).toEqual([])
    expect(warnings).toEqual([])
  })

  it.each([
    [['if-none-match', 'if-match'], 'ignores If-None-Match on a PUT'],
    [['if-none-match'], 'ignores If-None-Match on a PUT'],
    [['if-match'], 'ignores If-Match on a PUT'],
  ])('refuses one that does not know %s', async (headers, sentence) => {
    proxy.fault = (request) => (request.method === 'PUT' ? { kind: 'deaf', headers } : undefined)
    await expect(open()).rejects.toMatchObject({
      code: 'store_unavailable',
      message: expect.stringMatching(
        new RegExp(`^the S3 server at ${proxy.endpoint} ${sentence}, so .*use a server with conditional writes`),
      ) as string,
    })
    expect(await probes()).toEqual([])
  })

  it.each([
    ['if-none-match', 'If-None-Match'],
    ['if-match', 'If-Match'],
  ])('refuses one that answers %s with an error', async (header, name) => {
    proxy.fault = (request) =>
      header in request.headers ? { kind: 'status', status: 501, code: 'NotImplemented' } : undefined
    await expect(open()).rejects.toMatchObject({
      code: 'store_unavailable',
      message: expect.stringContaining(`refuses ${name} on a PUT`) as string,
    })
    expect(await probes()).toEqual([])
  })

  it('whose answers are lost tries again and is none the wiser', async () => {
    const met = new Set<string>()
    proxy.fault = (request) => {
      const state = `${request.headers['if-none-match'] ?? ''} ${request.headers['if-match'] ?? ''}`
      if (request.method !== 'PUT' || met.has(state)) return undefined
      met.add(state)
      return { kind: 'answer lost' }
    }
    await (await open()).close()
    expect(met.size).toBe(2)
    expect(await probes()).toEqual([])
  })

  it('that has no space cannot try, says so, and starts', async () => {
    proxy.fault = (request) =>
      request.method === 'PUT' ? { kind: 'status', status: 507, code: 'XMinioStorageFull' } : undefined
    await (await open()).close()
    expect(warnings.splice(0)).toEqual([expect.stringMatching(/has no space left: whether it obeys/) as string])
  })

  it('deletes what one that died long ago has left, and not what one under way has', async () => {
    const [old, young] = [`${PROBES}${randomUUID()}`, `${PROBES}${randomUUID()}`]
    const store = await open()
    for (const key of [old, young]) await store.put(key, Buffer.from('first'))
    expect((await store.list('')).objects).toEqual([])
    await store.close()
    // Versity S3 Gateway keeps objects as files; MinIO's times cannot be set.
    if (server === 'versitygw' && s3.own) {
      const then = (Date.now() - PROBE_LIFETIME_MS) / 1_000 - 60
      utimesSync(join(s3.folder!, bucket, old), then, then)
    }
    await (await open()).close()
    expect(await probes()).toEqual(server === 'versitygw' && s3.own ? [young] : [old, young].sort())
  })
})
