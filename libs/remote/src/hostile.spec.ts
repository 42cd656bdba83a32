import { createServer as createRawServer, type AddressInfo } from 'node:net'
import { createServer } from 'node:http'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { digestOf, MEDIA, parseDigest, parseReference, type Digest, type Tag } from '@strata/oci'
import { HostsConfiguration } from './hosts/hosts-configuration.js'
import type { RemoteLimits } from './limits.js'
import { RemoteRegistries } from './remote-registries.js'
import type { RemoteRepository } from './remote-repository.js'
import {
  bytesIn,
  collect,
  SHORT_LIMITS,
  SMALL_LIMITS,
  TestRegistry,
  serveBytes,
  type Behaviour,
} from './testing/index.js'

const resolved = vi.hoisted(() => ({ names: new Map<string, string[]>(), asked: [] as string[] }))
vi.mock('node:dns/promises', async (original) => {
  const real = await original<typeof import('node:dns/promises')>()
  return {
    ...real,
    lookup: async (name: string, options: { all: true }) => {
      resolved.asked.push(name)
      const known = resolved.names.get(name)
      if (known) return known.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }))
      return await real.lookup(name, options)
    },
  }
})

const MANIFEST = { schemaVersion: 2, mediaType: MEDIA.manifest, config: { digest: digestOf(''), size: 0 }, layers: [] }
const LATEST = 'latest' as Tag
let registry: TestRegistry
let other: TestRegistry
let client: RemoteRegistries
const signal = AbortSignal.timeout(600_000)

beforeEach(async () => {
  registry = await TestRegistry.start()
  other = await TestRegistry.start()
  registry.addManifest('latest', MANIFEST)
  client = open()
})
afterEach(async () => {
  await client.close()
  await registry[Symbol.asyncDispose]()
  await other[Symbol.asyncDispose]()
  resolved.names.clear()
  resolved.asked.length = 0
})

function open(limits: Partial<RemoteLimits> = {}, ...folders: string[]): RemoteRegistries {
  return new RemoteRegistries({
    hosts: new HostsConfiguration({ folders }),
    limits: { ...SMALL_LIMITS, ...limits },
    environment: {},
  })
}

/** Another client than the one that the test began with. */
async function limited(limits: Partial<RemoteLimits>): Promise<RemoteRepository> {
  await client.close()
  client = open(limits)
  return repository()
}

function repository(): RemoteRepository {
  return client.repository(registry.repository)
}

/** Only for paths that hold this. */
function at(part: string, behaviour: Behaviour): void {
  registry.behave = (request, answer) => (request.url?.includes(part) ? behaviour(request, answer) : false)
}

const manifest = async (): Promise<unknown> => await repository().manifest(LATEST, { signal })

async function bytesOf(digest: Digest, size: number, start = 0, from = repository()): Promise<Buffer> {
  const { body } = await from.blob({ digest, size }, { signal, start })
  return await bytesIn(body)
}

describe('where it leads', () => {
  const redirectTo = (location: string, status = 307): void =>
    at('/manifests/', (_, answer) => {
      answer.writeHead(status, { location }).end()
      return true
    })

  it.each([
    ['another port of this machine', () => `http://127.0.0.1:${other.port}/`, 'loopback'],
    ['by its name', () => `http://localhost:${other.port}/`, 'this machine'],
    ['by a name below it', () => `http://a.localhost:${other.port}/`, 'this machine'],
    ['as one number', () => `http://2130706433:${other.port}/`, 'loopback'],
    ['in hex', () => `http://0x7f.1:${other.port}/`, 'loopback'],
    ['in octal', () => `http://0177.0.0.01:${other.port}/`, 'loopback'],
    ['in full-width digits', () => `http://%EF%BC%91%EF%BC%92%EF%BC%97.0.0.1:${other.port}/`, 'loopback'],
    ['as IPv6', () => `http://[::1]:${other.port}/`, 'loopback'],
    ['mapped into IPv6', () => `http://[::ffff:127.0.0.1]:${other.port}/`, 'loopback'],
    ['as nothing', () => `http://0.0.0.0:${other.port}/`, 'unspecified'],
    ['to the metadata of a cloud', () => 'http://169.254.169.254/latest/meta-data/', 'link-local'],
    ['into a private network', () => 'https://10.1.2.3/', 'private'],
    ['to a file', () => 'file:///etc/passwd', 'neither https nor http'],
    ['with credentials', () => `http://user:secret@127.0.0.1:${other.port}/`, 'credentials'],
  ])('is refused: %s', async (_, location, why) => {
    redirectTo(location())
    await expect(manifest()).rejects.toMatchObject({
      code: 'address_refused',
      message: expect.stringContaining(why) as string,
    })
    expect(other.seen).toEqual([])
  })

  it('says what to configure', async () => {
    redirectTo(`http://127.0.0.1:${other.port}/`)
    await expect(manifest()).rejects.toThrow(
      `write redirects = ["127.0.0.1:${other.port}"] into the hosts.toml of ${registry.host}`,
    )
  })

  it('is looked at after a name was resolved, and what was looked at is what is used', async () => {
    resolved.names.set('innocent.example', ['127.0.0.1'])
    redirectTo(`http://innocent.example:${other.port}/`)
    await expect(manifest()).rejects.toMatchObject({
      code: 'address_refused',
      message: expect.stringContaining('innocent.example is at 127.0.0.1, a loopback address') as string,
    })
    resolved.names.set('innocent.example', ['fd00::1', '::ffff:10.0.0.1', '64:ff9b::a9fe:a9fe'])
    await expect(manifest()).rejects.toMatchObject({ code: 'address_refused' })
    // Once for each: nobody resolves it again to connect.
    expect(resolved.asked.filter((name) => name === 'innocent.example')).toHaveLength(2)
    expect(other.seen).toEqual([])
  })

  it('ends after five redirections', async () => {
    redirectTo('/v2/fx/app/manifests/latest')
    await expect(manifest()).rejects.toMatchObject({ code: 'limit_exceeded' })
    expect(registry.seen).toHaveLength(6)
  })

  it('needs a Location that is a URL, once', async () => {
    redirectTo('http://[')
    await expect(manifest()).rejects.toMatchObject({ code: 'registry_invalid' })
    at('/manifests/', (_, answer) => !!answer.writeHead(302).end())
    await expect(manifest()).rejects.toThrow('no Location')
    at(
      '/manifests/',
      (_, answer) =>
        !!answer
          .writeHead(
            302,
            [
              ['Location', '/a'],
              ['Location', '/b'],
            ].flat(),
          )
          .end(),
    )
    await expect(manifest()).rejects.toThrow('location twice')
  })

  it('may be its own host, at another path', async () => {
    registry.addManifest('moved', MANIFEST)
    at('/manifests/latest', (_, answer) => !!answer.writeHead(301, { location: '/v2/fx/app/manifests/moved' }).end())
    expect(await manifest()).toMatchObject({ mediaType: MEDIA.manifest })
  })

  it('counts for the next page, too', async () => {
    at('/tags/', (_, answer) => {
      answer.setHeader('link', `<http://127.0.0.1:${other.port}/v2/fx/app/tags/list?last=a>; rel="next"`)
      answer.end(JSON.stringify({ tags: ['a'] }))
      return true
    })
    await expect(collect(repository().tags({ signal }))).rejects.toMatchObject({ code: 'address_refused' })
    expect(other.seen).toEqual([])
  })

  it('counts for the addresses of foreign layers, too', async () => {
    const digest = digestOf('foreign')
    for (const url of [`http://127.0.0.1:${other.port}/x`, `https://127.0.0.1:${other.port}/x`, 'file:///etc/passwd'])
      await expect(repository().blob({ digest, size: 7, urls: [url] }, { signal })).rejects.toMatchObject({
        code: 'address_refused',
      })
    expect(other.seen).toEqual([])
    await expect(repository().blob({ digest, size: 7, urls: [17, null] }, { signal })).rejects.toMatchObject({
      code: 'blob_not_found',
    })
  })
})

describe('what it answers', () => {
  it.each([
    ['an endless body', { 'transfer-encoding': 'chunked' }],
    ['a length that is too much', { 'content-length': 2 ** 40 }],
  ])('%s of a manifest is cut', async (_, headers) => {
    let sent = 0
    at('/manifests/', (_request, answer) => {
      answer.writeHead(200, { 'content-type': MEDIA.manifest, ...headers })
      const more = (): void => {
        while (!answer.destroyed && answer.write(Buffer.alloc(16 * 1024))) sent++
      }
      answer.on('drain', more)
      more()
      return true
    })
    await expect(manifest()).rejects.toMatchObject({ code: 'limit_exceeded' })
    // What sockets hold, and no more.
    expect(sent * 16 * 1024).toBeLessThan(16 * 1024 * 1024)
  })

  it('headers without end are cut', async () => {
    at('/manifests/', (_, answer) => {
      answer.writeHead(200, { 'x-long': 'x'.repeat(64 * 1024) }).end('{}')
      return true
    })
    await expect(manifest()).rejects.toMatchObject({ code: 'limit_exceeded' })
  })

  it('answers before the answer, without end, are cut', async () => {
    const repo = await limited({ ...SHORT_LIMITS, maxAttempts: 1 })
    at('/manifests/', async (request) => {
      while (!request.socket.destroyed) {
        request.socket.write('HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n')
        await new Promise((resolve) => setTimeout(resolve, 5))
      }
      return true
    })
    await expect(repo.manifest(LATEST, { signal })).rejects.toThrow('no answer came within 0.3 s')
  })

  it('a body that trickles is given up', async () => {
    const repo = await limited({ ...SHORT_LIMITS, maxAttempts: 2 })
    at('/manifests/', async (_, answer) => {
      answer.writeHead(200, { 'content-type': MEDIA.manifest })
      while (!answer.destroyed) {
        answer.write(' ')
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
      return true
    })
    await expect(repo.manifest(LATEST, { signal })).rejects.toThrow('did not come within 1.5 s, after 2 attempts')
    expect(registry.seen).toHaveLength(2)
  })

  it('JSON that is deep, or none, or of another kind is refused', async () => {
    const answered = (bytes: string | Buffer, type: string = MEDIA.manifest): void =>
      at('/manifests/', (_, answer) => {
        answer.writeHead(200, { 'content-type': type }).end(bytes)
        return true
      })
    answered('['.repeat(60_000))
    await expect(manifest()).rejects.toMatchObject({ code: 'limit_exceeded' })
    answered('<html>')
    await expect(manifest()).rejects.toMatchObject({ code: 'registry_invalid' })
    answered(JSON.stringify({ ...MANIFEST, mediaType: MEDIA.index }))
    await expect(manifest()).rejects.toThrow('and the registry says')
    answered(JSON.stringify({ hello: 'world' }), 'application/json')
    await expect(manifest()).rejects.toThrow('neither a manifest nor an index')
    answered(JSON.stringify(MANIFEST), 'application/vnd.docker.distribution.manifest.v1+prettyjws')
    await expect(manifest()).rejects.toMatchObject({ code: 'unsupported' })
    answered(JSON.stringify(MANIFEST), 'text/plain; charset=utf-8')
    expect(await manifest()).toMatchObject({ mediaType: MEDIA.manifest })
  })

  it('another digest than was asked for, or than it says, is refused', async () => {
    const digest = parseDigest(`sha256:${'0'.repeat(64)}`)
    registry.manifests.set(digest, registry.manifests.get('latest')!)
    await expect(repository().manifest(digest, { signal })).rejects.toMatchObject({ code: 'digest_mismatch' })
    at('/manifests/latest', (_, answer) => {
      answer.writeHead(200, { 'docker-content-digest': digest, 'content-type': MEDIA.manifest })
      answer.end(JSON.stringify(MANIFEST))
      return true
    })
    await expect(manifest()).rejects.toMatchObject({ code: 'digest_mismatch' })
  })

  it('a compressed answer is refused, for a manifest and for a blob', async () => {
    const bomb = gzipSync(Buffer.alloc(1024 * 1024))
    registry.behave = (_, answer) => !!answer.writeHead(200, { 'content-encoding': 'gzip' }).end(bomb)
    await expect(manifest()).rejects.toThrow('the encoding "gzip"')
    await expect(bytesOf(digestOf('x'), 1024 * 1024)).rejects.toThrow('the encoding "gzip"')
    expect(registry.seen[0]!.headers['accept-encoding']).toBe('identity')
  })

  it('what is not HTTP is refused', async () => {
    const raw = createRawServer((socket) => {
      socket.on('error', () => undefined)
      socket.once('data', () => socket.end('220 mail.example ESMTP\r\n'))
    })
    await once(raw.listen(0, '127.0.0.1'), 'listening')
    const name = parseReference(`127.0.0.1:${(raw.address() as AddressInfo).port}/a`).repository
    await expect(client.repository(name).manifest(LATEST, { signal })).rejects.toMatchObject({
      code: 'registry_invalid',
    })
    raw.close()
  })

  it('a change of protocol is refused', async () => {
    const repo = await limited({ maxAttempts: 1 })
    at('/manifests/', (request) => {
      request.socket.end('HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n')
      return true
    })
    await expect(repo.manifest(LATEST, { signal })).rejects.toMatchObject({ code: 'registry_unavailable' })
  })
})

describe('a blob', () => {
  const BYTES = Buffer.alloc(100_000, 'blob ')

  it('that is longer or shorter than it should be is refused', async () => {
    const { digest, size } = registry.addBlob(BYTES)
    await expect(bytesOf(digest, size - 1)).rejects.toMatchObject({ code: 'registry_invalid' })
    await expect(bytesOf(digest, size + 1)).rejects.toMatchObject({ code: 'registry_invalid' })
    at('/blobs/', (_, answer) => {
      answer.write(BYTES)
      answer.end('more')
      return true
    })
    await expect(bytesOf(digest, size)).rejects.toMatchObject({ code: 'registry_invalid' })
  })

  it('that ends early is given up after some attempts', async () => {
    const { digest, size } = registry.addBlob(BYTES)
    const waits: string[] = []
    at('/blobs/', (request, answer) => {
      if (request.headers.range) answer.destroy()
      else answer.write(BYTES.subarray(0, 1_000), () => answer.destroy())
      return true
    })
    const { body } = await repository().blob({ digest, size }, { signal, onWait: (why) => waits.push(why) })
    await expect(collect(body)).rejects.toThrow('after 8 attempts')
    expect(waits).toHaveLength(7)
  })

  it('goes on by range where the connection broke', async () => {
    const { digest, size } = registry.addBlob(BYTES)
    let broken = 0
    at('/blobs/', (request, answer) => {
      if (++broken > 3) return false
      const from = Number(/(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0)
      answer.writeHead(from === 0 ? 200 : 206, {
        'content-length': size - from,
        ...(from === 0 ? {} : { 'content-range': `bytes ${from}-${size - 1}/${size}` }),
      })
      answer.write(BYTES.subarray(from, from + 10_000), () => answer.destroy())
      return true
    })
    expect(digestOf(await bytesOf(digest, size))).toBe(digest)
    expect(registry.seen.map(({ headers }) => headers.range)).toEqual(
      [undefined, undefined, 'bytes=10000-', 'bytes=20000-', 'bytes=30000-'].slice(1),
    )
  })

  it('begins again where the registry knows no ranges, and says so', async () => {
    const { digest, size } = registry.addBlob(BYTES)
    registry.knowsRanges = false
    const { start, body } = await repository().blob({ digest, size }, { signal, start: 50_000 })
    expect(start).toBe(0)
    expect(digestOf(await bytesIn(body))).toBe(digest)

    let answers = 0
    at('/blobs/', (_, answer) => {
      if (++answers > 2) return false
      answer.writeHead(200, { 'content-length': size }).write(BYTES.subarray(0, 40_000), () => answer.destroy())
      return true
    })
    // Nobody sees a break: what was delivered is dropped.
    expect(digestOf(await bytesOf(digest, size))).toBe(digest)
    at('/blobs/', (_, answer) => {
      answer.writeHead(200, { 'content-length': size }).write(BYTES.subarray(0, 40_000), () => answer.destroy())
      return true
    })
    await expect(bytesOf(digest, size)).rejects.toThrow('broke it off 4 times')
  })

  it.each([
    ['another range', 'bytes 0-9/100000'],
    ['another size', 'bytes 50000-99999/200000'],
    ['no range', undefined],
    ['nonsense', 'bytes all of it'],
  ])('is refused with %s in its answer', async (_, range) => {
    const { digest, size } = registry.addBlob(BYTES)
    at('/blobs/', (_request, answer) => {
      answer.writeHead(206, range === undefined ? {} : { 'content-range': range }).end(BYTES.subarray(50_000))
      return true
    })
    await expect(bytesOf(digest, size, 50_000)).rejects.toMatchObject({ code: 'registry_invalid' })
  })

  it('that changes while it is read is refused', async () => {
    const { digest, size } = registry.addBlob(BYTES)
    let answers = 0
    at('/blobs/', (request, answer) => {
      answer.setHeader('etag', `"${++answers}"`)
      if (answers === 1) {
        answer.writeHead(200, { 'content-length': size }).write(BYTES.subarray(0, 10), () => answer.destroy())
        return true
      }
      expect(request.headers['if-range']).toBe('"1"')
      return false
    })
    await expect(bytesOf(digest, size)).rejects.toThrow('changed while it was read')
  })

  it('without a byte, or with few, is given up', async () => {
    const repo = await limited({ ...SHORT_LIMITS, maxAttempts: 2 })
    const { digest, size } = registry.addBlob(BYTES)
    at('/blobs/', (_, answer) => {
      answer.writeHead(200, { 'content-length': size }).write('x')
      return true
    })
    await expect(bytesOf(digest, size, 0, repo)).rejects.toThrow('no byte came for 0.3 s')
    at('/blobs/', async (request, answer) => {
      const from = Number(/(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0)
      answer.writeHead(from === 0 ? 200 : 206, {
        'content-length': size - from,
        ...(from === 0 ? {} : { 'content-range': `bytes ${from}-${size - 1}/${size}` }),
      })
      while (!answer.destroyed) {
        answer.write('x')
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
      return true
    })
    await expect(bytesOf(digest, size, 0, repo)).rejects.toThrow(/only \d+ bytes came in 0\.6 s/)
  })

  it('of one byte with each connection is given up', async () => {
    const { digest, size } = registry.addBlob(BYTES)
    at('/blobs/', (request, answer) => {
      const from = Number(/(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0)
      answer.writeHead(from === 0 ? 200 : 206, {
        'content-length': size - from,
        ...(from === 0 ? {} : { 'content-range': `bytes ${from}-${size - 1}/${size}` }),
      })
      answer.write('x', () => answer.destroy())
      return true
    })
    await expect(bytesOf(digest, size)).rejects.toThrow('after 8 attempts')
  })

  it('that nobody has is not found', async () => {
    await expect(bytesOf(digestOf('none'), 4)).rejects.toMatchObject({ code: 'blob_not_found' })
  })

  it('of no bytes, or wanted from its end, needs no request', async () => {
    expect(await bytesOf(digestOf(''), 0)).toHaveLength(0)
    expect(await bytesOf(digestOf('abc'), 3, 3)).toHaveLength(0)
    expect(registry.seen).toEqual([])
  })
})

describe('waits', () => {
  it('as long as the registry asks, and no longer than the limit', async () => {
    const told: [string, number][] = []
    const answers: [number, string?][] = [
      [429, '0'],
      [503, '7'],
      [500],
      [429, new Date(Date.now() + 3_600_000).toUTCString()],
    ]
    at('/manifests/', (_, answer) => {
      const [status, after] = answers.shift() ?? []
      if (status === undefined) return false
      answer.writeHead(status, after === undefined ? {} : { 'retry-after': after })
      answer.end(JSON.stringify({ errors: [{ code: 'TOOMANYREQUESTS', message: 'slower' }] }))
      return true
    })
    await repository().manifest(LATEST, { signal, onWait: (why, ms) => told.push([why, ms]) })
    const [first, second, third, fourth] = told.map(([, ms]) => ms)
    expect([first, second, fourth]).toEqual([0, 20, 20])
    expect(third).toBeGreaterThan(0)
    expect(told[0]![0]).toContain('is answered with 429: "TOOMANYREQUESTS: slower"')
  })

  it('end when the caller leaves', async () => {
    const repo = await limited({ maxRetryAfterMs: 3_600_000 })
    at('/manifests/', (_, answer) => !!answer.writeHead(503, { 'retry-after': '3600' }).end())
    const leave = new AbortController()
    const reason = new Error('left')
    const onWait = (): void => leave.abort(reason)
    await expect(repo.manifest(LATEST, { signal: leave.signal, onWait })).rejects.toBe(reason)
  })

  it('are at most eight attempts, three where nobody ever answered, and none for a final answer', async () => {
    at('/manifests/', (_, answer) => !!answer.writeHead(500).end())
    await expect(manifest()).rejects.toThrow('after 8 attempts')
    expect(registry.seen).toHaveLength(8)
    const gone = createServer()
    await once(gone.listen(0, '127.0.0.1'), 'listening')
    const name = parseReference(`127.0.0.1:${(gone.address() as AddressInfo).port}/a`).repository
    await once(gone.close(), 'close')
    await expect(client.repository(name).manifest(LATEST, { signal })).rejects.toThrow('after 3 attempts')
    registry.seen.length = 0
    at('/manifests/', (_, answer) => !!answer.writeHead(418).end())
    await expect(manifest()).rejects.toMatchObject({ code: 'registry_invalid' })
    expect(registry.seen).toHaveLength(1)
  })
})

describe('large blobs', () => {
  const BYTES = Buffer.alloc(1_000_000, 'a large blob in ranges ')

  it('come in ranges, in order, several at once', async () => {
    const { digest, size } = registry.addBlob(BYTES)
    let open = 0
    let most = 0
    at('/blobs/', async (request, answer) => {
      most = Math.max(most, ++open)
      await new Promise((resolve) => setTimeout(resolve, 10))
      open--
      serveBytes(BYTES, request, answer)
      return true
    })
    expect(digestOf(await bytesOf(digest, size))).toBe(digest)
    expect(registry.seen).toHaveLength(Math.ceil(size / 65_536))
    expect(most).toBe(3)
    const tail = await bytesOf(digest, size, 17)
    expect(tail.equals(BYTES.subarray(17))).toBe(true)
  })

  it('come in ranges through broken connections', async () => {
    const { digest, size } = registry.addBlob(BYTES)
    let count = 0
    at('/blobs/', (request, answer) => {
      if (++count % 3 !== 0) return false
      const [, from = 0, to = 0] = (/(\d+)-(\d+)/.exec(request.headers.range ?? '') ?? []).map(Number)
      answer.writeHead(206, { 'content-length': to + 1 - from, 'content-range': `bytes ${from}-${to}/${size}` })
      answer.write(BYTES.subarray(from, from + (to - from) / 2), () => answer.destroy())
      return true
    })
    expect(digestOf(await bytesOf(digest, size))).toBe(digest)
  })

  it('come as one stream where ranges are not known, and where memory is not left', async () => {
    const { digest, size } = registry.addBlob(BYTES)
    registry.knowsRanges = false
    expect(digestOf(await bytesOf(digest, size))).toBe(digest)
    expect(registry.seen).toHaveLength(1)
    registry.knowsRanges = true
    const repo = await limited({ maxRangeMemory: 0 })
    expect(digestOf(await bytesOf(digest, size, 0, repo))).toBe(digest)
  })

  it('whose ranges become the whole blob end after some of them', async () => {
    const { digest, size } = registry.addBlob(BYTES)
    at('/blobs/', (request, answer) => {
      if (request.headers.range?.startsWith('bytes=0-')) return false
      answer.writeHead(200, { 'content-length': size }).end(BYTES)
      return true
    })
    await expect(bytesOf(digest, size)).rejects.toThrow('only from its beginning')
  })

  it('come in ranges by plain HTTP from where a registry without TLS leads', async () => {
    const { digest, size } = other.addBlob(BYTES)
    at('/blobs/', (request, answer) => !!answer.writeHead(307, { location: `${other.url}${request.url}` }).end())
    const folder = await mkdtemp(join(tmpdir(), 'strata-remote-'))
    try {
      await mkdir(join(folder, registry.host))
      const toml = `server = "${registry.url}"\nredirects = ["${other.host}"]\n`
      await writeFile(join(folder, registry.host, 'hosts.toml'), toml)
      await client.close()
      client = open({}, folder)
      expect((await bytesOf(digest, size)).equals(BYTES)).toBe(true)
    } finally {
      await rm(folder, { recursive: true })
    }
    // The registry is asked once, whatever the number of ranges.
    expect(registry.seen).toHaveLength(1)
    expect(other.seen.length).toBeGreaterThan(1)
  })

  it('close their connections when the reader leaves', async () => {
    const { digest, size } = registry.addBlob(BYTES)
    const { body } = await repository().blob({ digest, size }, { signal })
    for await (const chunk of body) {
      expect(chunk.length).toBeGreaterThan(0)
      break
    }
    // Memory and connections are free again.
    expect(digestOf(await bytesOf(digest, size))).toBe(digest)
  })
})

describe('lists', () => {
  it('of tags come page by page, and end', async () => {
    at('/tags/', (request, answer) => {
      const last = new URL(request.url ?? '', 'http://x').searchParams.get('last')
      if (last === null) answer.setHeader('link', '</v2/fx/app/tags/list?n=2&last=b>; rel="next"')
      answer.end(JSON.stringify({ name: 'fx/app', tags: last === null ? ['a', 'b'] : ['c'] }))
      return true
    })
    expect(await collect(repository().tags({ signal }))).toEqual(['a', 'b', 'c'])
    at('/tags/', (_, answer) => {
      answer.setHeader('link', '</v2/fx/app/tags/list?last=b>; rel=next')
      answer.end(JSON.stringify({ tags: ['a'] }))
      return true
    })
    await expect(collect(repository().tags({ signal }))).rejects.toThrow('more than 5 pages')
    registry.behave = () => false
    registry.tags = Array.from({ length: 3_000 }, (_, at) => `t${at}`)
    await expect(collect(repository().tags({ signal }))).rejects.toThrow('more than 2000')
    registry.tags = Array.from({ length: 30_000 }, (_, at) => `t${at}`)
    await expect(collect(repository().tags({ signal }))).rejects.toMatchObject({ code: 'limit_exceeded' })
    registry.tags = ['../../x']
    await expect(collect(repository().tags({ signal }))).rejects.toThrow('which is no tag')
    at('/tags/', (_, answer) => !!answer.writeHead(404).end())
    await expect(collect(repository().tags({ signal }))).rejects.toMatchObject({ code: 'repository_not_found' })
  })

  it('of referrers come from the API, or by a tag', async () => {
    const subject = digestOf('subject')
    const index = { schemaVersion: 2, mediaType: MEDIA.index, manifests: [{ digest: digestOf('sig'), size: 3 }] }
    expect(await collect(repository().referrers(subject, { signal }))).toEqual([])
    registry.addManifest(subject.replace(':', '-'), index, MEDIA.index)
    expect(await collect(repository().referrers(subject, { signal }))).toMatchObject([{ digest: digestOf('sig') }])
    at('/referrers/', (_, answer) => {
      answer.end(JSON.stringify({ ...index, manifests: [] }))
      return true
    })
    expect(await collect(repository().referrers(subject, { signal }))).toEqual([])
    at('/referrers/', (_, answer) => {
      answer.end(' '.repeat(65 * 1024))
      return true
    })
    await expect(collect(repository().referrers(subject, { signal }))).rejects.toMatchObject({
      code: 'limit_exceeded',
    })
    at('/referrers/', (_, answer) => !!answer.end('{"manifests":[{"digest":"../x"}]}'))
    await expect(collect(repository().referrers(subject, { signal }))).rejects.toMatchObject({
      code: 'registry_invalid',
    })
  })
})
