import { execFile } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { Client } from 'minio'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { lentChunks } from '../objects/lent-chunks.js'
import type { PartialUpload } from '../objects/object-store.js'
import { HostileProxy, type Fault } from '../testing/hostile-proxy.js'
import { partialKeys, TestS3, whyNoTestS3 } from '../testing/test-s3.js'
import { bodyMemory } from './bodies/body-memory.js'
import { publicReads } from './public-reads.js'
import { S3Store } from './s3-store.js'

const MIB = 1024 * 1024
const why = whyNoTestS3('minio')
const unavailable = { code: 'store_unavailable' }

describe('S3Store and a hostile server', () => {
  if (why !== undefined) {
    it('comes to good ends', (context) => context.skip(why))
    return
  }
  let s3: TestS3
  let proxy: HostileProxy
  let bucket: string
  /** Through the proxy. */
  let store: S3Store
  /** Looks past it. */
  let plain: S3Store
  beforeAll(async () => {
    s3 = await TestS3.start()
  })
  afterAll(() => s3.remove())
  beforeEach(async () => {
    proxy = await HostileProxy.start(s3.endpoint)
    bucket = `b-${randomUUID()}`
    plain = await S3Store.open(s3.config({ bucket }))
    store = await S3Store.open(s3.config({ bucket, endpoint: proxy.endpoint }))
  })
  afterEach(async () => {
    proxy.fault = () => undefined
    expect(await partial()).toEqual([])
    await store.close()
    await plain.close()
    await proxy.close()
  })

  const fresh = (): string => `data/u/${randomUUID()}`
  const partial = (): Promise<string[]> => partialKeys(plain)
  const everything = async (): Promise<string[]> => (await plain.list('')).objects.map(({ key }) => key)
  const collect = async (key: string): Promise<Buffer> =>
    Buffer.concat((await (await store.get(key))!.body.toArray()) as Buffer[])
  const collectLent = async (key: string): Promise<Buffer> => {
    const copies: Buffer[] = []
    for await (const chunk of lentChunks((await store.get(key))!.body)) copies.push(Buffer.from(chunk))
    return Buffer.concat(copies)
  }
  const WAYS = [
    ['as a stream', collect],
    ['in memory that is lent', collectLent],
  ] as const
  const piecesOf = async function* (bytes: Buffer): AsyncGenerator<Buffer> {
    for (let at = 0; at < bytes.length; at += MIB) yield await Promise.resolve(bytes.subarray(at, at + MIB))
  }
  /**
   * Each request, told by its method and the names of its query, meets the fault the first time
   * that it comes.
   */
  const once = (fault: Fault, concerns: (request: IncomingMessage) => boolean = () => true): void => {
    const met = new Set<string>()
    proxy.fault = (request) => {
      const { pathname, searchParams } = new URL(request.url!, 'http://s3')
      const name = `${request.method} ${pathname} ${searchParams.get('partNumber') ?? ''} ${[...searchParams.keys()].filter((key) => !key.startsWith('X-')).join()} ${request.headers['if-match'] ?? ''}`
      if (met.has(name) || !concerns(request)) return undefined
      met.add(name)
      return fault
    }
  }
  /** All verbs, one after the other; each has to do its work. */
  const useAll = async (): Promise<void> => {
    const [small, large] = [randomBytes(1000), randomBytes(40 * MIB)]
    const [a, b] = [fresh(), fresh()]
    expect((await store.put(a, small)).size).toBe(small.length)
    expect((await store.put(b, piecesOf(large))).size).toBe(large.length)
    expect((await store.read(a, 1000))?.bytes.equals(small)).toBe(true)
    expect((await collect(b)).equals(large)).toBe(true)
    expect((await collectLent(b)).equals(large)).toBe(true)
    expect((await store.stat(b))?.size).toBe(large.length)
    const first = await store.create('uploads/x', Buffer.from('first'))
    expect(first).toBeDefined()
    expect(await store.create('uploads/x', Buffer.from('other'))).toBeUndefined()
    const second = await store.replace('uploads/x', Buffer.from('second'), first!)
    expect(second).toBeDefined()
    expect(await store.replace('uploads/x', Buffer.from('third'), first!)).toBeUndefined()
    expect(await store.read('uploads/x', 100)).toEqual({ bytes: Buffer.from('second'), etag: second })
    expect((await store.list('')).objects.map(({ key }) => key)).toEqual([a, b, 'uploads/x'].sort())
    await store.delete([a, b, 'uploads/x'])
    expect(await everything()).toEqual([])
  }

  it.each<[string, Fault]>([
    ['slow', { kind: 'slow', ms: 100 }],
    ['busy', { kind: 'status', status: 503, code: 'SlowDown' }],
    ['broken by a proxy', { kind: 'status', status: 502 }],
    ['deaf: it does what it is asked, and its answers are lost', { kind: 'answer lost' }],
    ['cutting its answers short', { kind: 'answer cut', after: 7 }],
  ])('does all its work with a server that is %s, at the first try of each request', async (_, fault) => {
    once(fault)
    await useAll()
  })

  it('says in one sentence what a server answers that stays busy', async () => {
    proxy.fault = () => ({ kind: 'status', status: 503, code: 'SlowDown' })
    const told = {
      ...unavailable,
      message: expect.stringMatching(`^the S3 server at ${proxy.endpoint} answers 503 SlowDown`) as string,
    }
    const works = [
      store.read('data/u/x', 1),
      store.create('uploads/x', Buffer.from('x')),
      store.list(''),
      store.delete(['data/u/x']),
    ]
    await Promise.all(works.map((work) => expect(work).rejects.toMatchObject(told)))
    await expect(store.stat('data/u/x')).rejects.toMatchObject(unavailable)
  })

  it.each(WAYS)('reads on where an answer broke off, again and again: %s', async (_, collect) => {
    const key = fresh()
    const bytes = randomBytes(29 * MIB + 5)
    await plain.put(key, bytes)
    let cuts = 0
    proxy.fault = ({ method }) =>
      method === 'GET' && cuts++ < 20 ? { kind: 'answer cut', after: 300_000 + cuts } : undefined
    expect((await collect(key)).equals(bytes)).toBe(true)
    expect(cuts).toBeGreaterThan(20)
  })

  it.each(WAYS)('ends a body with an error if the server never gives the rest: %s', async (_, collect) => {
    const key = fresh()
    await plain.put(key, randomBytes(9 * MIB))
    proxy.fault = () => ({ kind: 'answer cut', after: 0 })
    await expect(collect(key)).rejects.toMatchObject({
      ...unavailable,
      message: expect.stringMatching(/breaks a body off at byte 0 of/) as string,
    })
    await expect.poll(() => bodyMemory.held).toBe(0)
  })

  it.each([
    ['as a stream', [], (body: Readable) => body as AsyncIterable<Buffer>],
    ['in memory that is lent', [], lentChunks],
    ['as a stream from a server that does not know If-Match', ['if-match'], (body: Readable) => body],
    ['in memory that is lent, from such a server', ['if-match'], lentChunks],
  ] as const)('never goes on with another state of an object: %s', async (_, headers, chunksOf) => {
    const etag = await plain.create('index/v1/x', Buffer.alloc(40 * MIB, 'a'))
    let isFirst = true
    proxy.fault = () => {
      if (!isFirst) return { kind: 'deaf', headers }
      isFirst = false
      return { kind: 'answer cut', after: MIB }
    }
    const reading = chunksOf((await store.get('index/v1/x'))!.body)[Symbol.asyncIterator]() as AsyncIterator<Buffer>
    await reading.next()
    await plain.replace('index/v1/x', Buffer.alloc(40 * MIB, 'b'), etag!)
    const rest = async (): Promise<void> => {
      for (let next = await reading.next(); !next.done; next = await reading.next())
        expect(next.value.includes('b')).toBe(false)
    }
    await expect(rest()).rejects.toMatchObject({
      ...unavailable,
      message: 'index/v1/x was changed or deleted while it was read',
    })
    await expect.poll(() => bodyMemory.held).toBe(0)
  })

  it.each(WAYS)('reads an object whole from a server that does not know ranges: %s', async (_, collect) => {
    const key = fresh()
    const bytes = randomBytes(20 * MIB)
    await plain.put(key, bytes)
    proxy.fault = () => ({ kind: 'deaf', headers: ['range'] })
    expect((await collect(key)).equals(bytes)).toBe(true)
  })

  it('takes no bytes of an answer that lies about its range', async () => {
    const key = fresh()
    const bytes = randomBytes(20 * MIB)
    await plain.put(key, bytes)
    let answers = 0
    proxy.fault = () =>
      answers++ % 3 === 0 ? undefined : { kind: 'lie', headers: { 'content-range': `bytes 5-9/${bytes.length}` } }
    expect((await collectLent(key)).equals(bytes)).toBe(true)
    expect(answers).toBeGreaterThan(6)
  })

  it('closes the connections of a body that is left early, and gives its memory back', async () => {
    const key = fresh()
    await plain.put(key, randomBytes(30 * MIB))
    proxy.fault = ({ headers }) => (headers['if-match'] === undefined ? undefined : { kind: 'silent' })
    const before = await proxy.connections()
    for await (const chunk of lentChunks((await store.get(key))!.body)) {
      expect(chunk.length).toBeGreaterThan(0)
      await expect.poll(() => proxy.connections()).toBeGreaterThanOrEqual(before + 2)
      break
    }
    await expect.poll(() => proxy.connections()).toBeLessThanOrEqual(before)
    expect(bodyMemory.held).toBe(0)
  })

  it('takes half a list for none', async () => {
    for (let i = 0; i < 30; i++) await plain.put(`data/u/${String(i).padStart(2, '0')}`, Buffer.from('x'))
    once({ kind: 'answer halved' })
    expect((await store.list('data/')).objects).toHaveLength(30)
    proxy.fault = () => ({ kind: 'answer halved' })
    await expect(store.list('data/')).rejects.toMatchObject(unavailable)
  })

  const listXml = (more: boolean, keys: readonly string[], token: string): string => {
    const contents = keys.map(
      (key) =>
        `<Contents><Key>${key}</Key><Size>1</Size><ETag>"e"</ETag><LastModified>2026-01-01T00:00:00Z</LastModified></Contents>`,
    )
    return `<ListBucketResult><KeyCount>${keys.length}</KeyCount><IsTruncated>${more}</IsTruncated>${token && `<NextContinuationToken>${token}</NextContinuationToken>`}${contents.join('')}</ListBucketResult>`
  }

  it('reads on behind an empty page that is not the last', async () => {
    await plain.put('data/u/1', Buffer.from('x'))
    let pages = 0
    proxy.fault = ({ url }) =>
      pages++ < 2
        ? { kind: 'body', xml: listXml(true, [], `t${pages}`) }
        : url!.includes('continuation-token=t2')
          ? { kind: 'body', xml: listXml(false, ['data/u/1'], '') }
          : undefined
    expect((await store.list('data/')).objects.map(({ key }) => key)).toEqual(['data/u/1'])
    expect(pages).toBe(3)
  })

  it.each([
    ['empty, not the last, and without a next one', () => listXml(true, [], '')],
    ['empty, and followed by itself', () => listXml(true, [], 'same')],
    ['of keys that were listed before', () => listXml(true, ['data/a/1'], '')],
    ['of keys that do not ascend', () => listXml(false, ['data/u/2', 'data/u/1'], '')],
    ['of keys of another prefix', () => listXml(false, ['images/x'], '')],
  ])('takes a page for none that is %s', async (_, xml) => {
    proxy.fault = () => ({ kind: 'body', xml: xml() })
    await expect(store.list('data/', { after: 'data/b' })).rejects.toMatchObject(unavailable)
  })

  it('says that a list has no end: empty pages without number, or in a circle', async () => {
    let pages = 0
    proxy.fault = () => ({ kind: 'body', xml: listXml(true, [], `t${pages++}`) })
    await expect(store.list('data/')).rejects.toMatchObject({
      ...unavailable,
      message: `the S3 server at ${proxy.endpoint} gave an answer that makes no sense (1000 empty pages of data/ in a row, and none is the last)`,
    })
    expect(pages).toBeLessThan(1_050)
    pages = 0
    proxy.fault = () => ({ kind: 'body', xml: listXml(true, [], `t${pages++ % 3}`) })
    await expect(store.list('data/')).rejects.toMatchObject(unavailable)
    expect(pages).toBeLessThan(50)
  })

  describe('a list of what was not finished', () => {
    const uploadsXml = (next: readonly [key: string, id: string] | undefined, keys: readonly string[]): string =>
      `<ListMultipartUploadsResult><IsTruncated>${next !== undefined}</IsTruncated>${next ? `<NextKeyMarker>${next[0]}</NextKeyMarker><NextUploadIdMarker>${next[1]}</NextUploadIdMarker>` : ''}${keys.map((key) => `<Upload><Key>${key}</Key><UploadId>id</UploadId><Initiated>2026-01-01T00:00:00Z</Initiated></Upload>`).join('')}</ListMultipartUploadsResult>`
    const isParts = ({ url }: IncomingMessage): boolean => url!.includes('part-number-marker')
    const all = async (): Promise<PartialUpload[]> => {
      const found: PartialUpload[] = []
      for await (const upload of store.listPartial('data/')) found.push(upload)
      return found
    }

    it.each<[string, (page: number) => string]>([
      ['goes on behind itself', () => uploadsXml(['data/u/1', 'id'], ['data/u/1'])],
      ['has no next page and is not the last', () => uploadsXml(['', ''], [])],
      ['goes back', (page) => uploadsXml([`data/u/${page % 2}`, `${page}`], [])],
      ['is empty for ever', (page) => uploadsXml([`data/u/${String(page).padStart(9, '0')}`, 'id'], [])],
    ])('that %s has no end: it says so', async (_, xml) => {
      let pages = 0
      proxy.fault = ({ url }) => (url!.includes('uploads') ? { kind: 'body', xml: xml(pages++) } : undefined)
      await expect(all()).rejects.toMatchObject({
        ...unavailable,
        message: expect.stringMatching(/gave an answer that makes no sense/) as string,
      })
      // With the repetitions of the one that goes back.
      expect(pages).toBeLessThan(2_100)
    })

    it.each(['0', '3', '', 'x', '99999'])('whose parts go on behind %j: the size says so', async (next) => {
      proxy.fault = (request) =>
        isParts(request)
          ? {
              kind: 'body',
              xml: `<ListPartsResult><IsTruncated>true</IsTruncated><NextPartNumberMarker>${next}</NextPartNumberMarker><Part><Size>1</Size></Part></ListPartsResult>`,
            }
          : request.url!.includes('uploads')
            ? { kind: 'body', xml: uploadsXml(undefined, ['data/u/1']) }
            : undefined
      const [upload] = await all()
      await expect(upload!.size()).rejects.toMatchObject({
        ...unavailable,
        message: expect.stringMatching(/gave an answer that makes no sense \(parts behind/) as string,
      })
    })
  })

  it('sends a part again that was reset in the middle, and ends cleanly if that does not help', async () => {
    const bytes = randomBytes(50 * MIB)
    const isPart = ({ url }: IncomingMessage): boolean => url!.includes('partNumber=2')
    once({ kind: 'request cut', after: 3 * MIB }, isPart)
    const key = fresh()
    await store.put(key, piecesOf(bytes))
    expect((await collect(key)).equals(bytes)).toBe(true)
    await store.delete([key])
    proxy.fault = (request) => (isPart(request) ? { kind: 'request cut', after: 3 * MIB } : undefined)
    await expect(store.put(fresh(), piecesOf(bytes))).rejects.toMatchObject(unavailable)
    expect(await everything()).toEqual([])
  })

  it('ends at once when aborted while the server is silent', async () => {
    const abort = new AbortController()
    proxy.fault = ({ url }) => (url!.includes('partNumber=1&') ? { kind: 'silent' } : undefined)
    const put = store.put(fresh(), piecesOf(randomBytes(90 * MIB)), { signal: abort.signal })
    const refused = expect(put).rejects.toMatchObject({ code: 'cancelled' })
    await expect.poll(() => proxy.requests.some((line) => line.includes('partNumber=1&'))).toBe(true)
    abort.abort()
    await refused
    expect(await everything()).toEqual([])
  })

  it('takes no bytes of another range than it asked for, at first or after a break', async () => {
    const key = fresh()
    const bytes = randomBytes(20 * MIB)
    await plain.put(key, bytes)
    const deaf: Fault = { kind: 'deaf', headers: ['range'] }
    proxy.fault = () => deaf
    await expect(store.get(key, { start: 5, end: 10 })).rejects.toMatchObject(unavailable)
    let isFirst = true
    proxy.fault = () => {
      if (!isFirst) return deaf
      isFirst = false
      return { kind: 'answer cut', after: 5 * MIB }
    }
    await expect(collect(key)).rejects.toMatchObject(unavailable)
    proxy.fault = () => undefined
    expect((await collect(key)).equals(bytes)).toBe(true)
    await plain.delete([key])
  })

  it.each([
    ['begins', /^POST .*[?&]uploads/, /^DELETE .*[?&]uploadId=/],
    ['notes', /^PUT .*partial/, /^DELETE .*partial/],
  ])('ends an upload in parts that the server %s only after it was aborted', async (_, held, ended) => {
    const abort = new AbortController()
    proxy.requests.length = 0
    const came = (request: RegExp) => () => proxy.requests.some((line) => request.test(line))
    once({ kind: 'slow', ms: 300 }, ({ method, url }) => held.test(`${method} ${url}`))
    const put = store.put(fresh(), piecesOf(randomBytes(50 * MIB)), { signal: abort.signal })
    const refused = expect(put).rejects.toMatchObject({ code: 'cancelled' })
    await expect.poll(came(held)).toBe(true)
    abort.abort()
    await refused
    await expect.poll(came(ended)).toBe(true)
    await expect.poll(partial).toEqual([])
    expect(await everything()).toEqual([])
  })

  it('ends an upload in parts on a server that is slow to end it', async () => {
    once({ kind: 'slow', ms: 2_500 }, ({ method, url }) => method === 'DELETE' && url!.includes('uploadId='))
    const broken = async function* () {
      yield* piecesOf(randomBytes(50 * MIB))
      throw new Error('the source broke')
    }
    await expect(store.put(fresh(), broken())).rejects.toThrow('the source broke')
    await expect.poll(partial).toEqual([])
  })

  it('gives back the connection of a body that nobody reads, and reads on later', async () => {
    const key = fresh()
    const bytes = randomBytes(30 * MIB)
    await plain.put(key, bytes)
    const { body } = (await store.get(key))!
    const reading = body[Symbol.asyncIterator]() as AsyncIterator<Buffer>
    const parts = [(await reading.next()).value as Buffer]
    const open = await proxy.connections()
    await expect.poll(() => proxy.connections()).toBeLessThan(open)
    for (let next = await reading.next(); !next.done; next = await reading.next()) parts.push(next.value)
    expect(Buffer.concat(parts).equals(bytes)).toBe(true)
  })

  it('tells wrong keys, a bucket that cannot be made and a server that is none, at the start', async () => {
    const config = s3.config({ bucket: 'not-there' })
    await expect(S3Store.open({ ...config, accessKey: 'nobody' })).rejects.toMatchObject({
      ...unavailable,
      message: `the S3 server at ${s3.endpoint} does not know the access key`,
    })
    await expect(S3Store.open({ ...config, secretKey: 'wrong-secret' })).rejects.toMatchObject({
      ...unavailable,
      message: `the S3 server at ${s3.endpoint} refuses the secret key: it is not the access key's`,
    })
    proxy.fault = ({ method }) => (method === 'PUT' ? { kind: 'status', status: 403, code: 'AccessDenied' } : undefined)
    await expect(S3Store.open({ ...config, endpoint: proxy.endpoint })).rejects.toMatchObject({
      ...unavailable,
      message: expect.stringMatching(
        /^there is no bucket not-there at .*, and it cannot be made with this access key/,
      ) as string,
    })
    await expect(S3Store.open({ ...config, endpoint: 'http://127.0.0.1:9' })).rejects.toMatchObject({
      ...unavailable,
      message: 'the S3 server at http://127.0.0.1:9 cannot be reached (ECONNREFUSED)',
    })
  })

  it('tells a bucket that vanished from an object that is not there', async () => {
    const config = s3.config({ bucket: `gone-${randomUUID()}` })
    const other = await S3Store.open(config)
    const { hostname, port } = new URL(s3.endpoint)
    await new Client({
      endPoint: hostname,
      port: Number(port),
      useSSL: false,
      region: s3.region,
      accessKey: s3.accessKey,
      secretKey: s3.secretKey,
    }).removeBucket(config.bucket)
    const told = { ...unavailable, message: `there is no bucket ${config.bucket} at ${s3.endpoint}` }
    const works: (() => Promise<unknown>)[] = [
      () => other.stat('data/u/x'),
      () => other.get('data/u/x'),
      () => other.read('data/u/x', 1),
      () => other.put('data/u/x', Buffer.from('x')),
      () => other.put('data/u/x', piecesOf(Buffer.alloc(20 * MIB))),
      () => other.create('uploads/x', Buffer.from('x')),
      () => other.replace('uploads/x', Buffer.from('x'), 'e' as never),
      () => other.list(''),
      () => other.delete(['data/u/x']),
    ]
    for (const work of works) await expect(work()).rejects.toMatchObject(told)
    await other.close()
  })

  it('tells them apart without a list where a HEAD says no more than 404, as S3 has it', async () => {
    const [key, absent] = [fresh(), fresh()]
    await plain.put(key, Buffer.from('x'))
    once({ kind: 'status', status: 404 }, ({ method }) => method === 'HEAD')
    proxy.requests.length = 0
    expect(await store.stat(absent)).toBeUndefined()
    expect((await store.stat(key))?.size).toBe(1)
    expect(proxy.requests.filter((request) => request.includes('list-type'))).toEqual([])
  })

  it('lets anybody read by a presigned URL, for its time', async () => {
    const key = "data/u/._:@+=,!'()*~-"
    await store.put(key, Buffer.from('0123456789'))
    const reads = publicReads(s3.config({ bucket }))
    const url = await reads.presignedGet(key, 60)
    expect(await (await fetch(url)).text()).toBe('0123456789')
    const part = await fetch(url, { headers: { range: 'bytes=2-4' } })
    expect([part.status, await part.text()]).toEqual([206, '234'])
    expect((await fetch(url, { method: 'PUT', body: 'x' })).status).toBe(403)
    const brief = await reads.presignedGet(key, 1)
    await expect.poll(async () => (await fetch(brief)).status).toBe(403)
    await store.delete([key])
  })

  it('deletes more keys than one request takes', async () => {
    const keys = Array.from({ length: 1_001 }, (_, i) => `data/u/${i}`)
    await Promise.all(keys.slice(-3).map((key) => store.put(key, Buffer.from('x'))))
    proxy.requests.length = 0
    await store.delete(keys)
    expect(await everything()).toEqual([])
    expect(proxy.requests.filter((line) => line.startsWith('POST') && line.includes('?delete'))).toHaveLength(2)
  })

  it('puts a gibibyte in the memory of a few parts', async () => {
    const script = fileURLToPath(new URL('../testing/put-stream.mjs', import.meta.url))
    const key = fresh()
    const config = JSON.stringify(s3.config({ bucket }))
    const { stdout } = await promisify(execFile)(process.execPath, [
      '--experimental-transform-types',
      '--no-warnings',
      '--conditions=@strata/source',
      script,
      config,
      key,
      '1024',
    ])
    expect((await plain.stat(key))?.size).toBe(1024 * MIB)
    expect(Number(stdout)).toBeLessThan(150 * MIB)
    await plain.delete([key])
  })
})
