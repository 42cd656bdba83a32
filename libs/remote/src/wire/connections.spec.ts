import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import { once } from 'node:events'
import { connect, createServer as createRawServer, type AddressInfo, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { digestOf, MEDIA, parseReference, type Tag } from '@strata/oci'
import { HostsConfiguration } from '../hosts/hosts-configuration.js'
import type { RemoteLimits } from '../limits.js'
import { RemoteRegistries } from '../remote-registries.js'
import { bytesIn, selfSigned, SMALL_LIMITS, TestRegistry } from '../testing/index.js'
import { proxyFor, type Environment } from './proxies.js'

const MANIFEST = { schemaVersion: 2, mediaType: MEDIA.manifest, config: { digest: digestOf(''), size: 0 }, layers: [] }
const LATEST = 'latest' as Tag
const signal = AbortSignal.timeout(600_000)
const stack: AsyncDisposable[] = []
let folder: string
beforeEach(async () => void (folder = await mkdtemp(join(tmpdir(), 'strata-remote-'))))
afterEach(async () => {
  vi.unstubAllEnvs()
  for (const one of stack.splice(0).reverse()) await one[Symbol.asyncDispose]()
  await rm(folder, { recursive: true })
})

async function registryWith(tls?: { key: string; cert: string; ca?: string }): Promise<TestRegistry> {
  const registry = await TestRegistry.start(tls)
  registry.addManifest('latest', MANIFEST)
  stack.push(registry)
  return registry
}

function clientWith(environment: Environment = {}, limits: Partial<RemoteLimits> = {}): RemoteRegistries {
  const hosts = new HostsConfiguration({ folders: [folder] })
  const client = new RemoteRegistries({ hosts, limits: { ...SMALL_LIMITS, ...limits }, environment })
  stack.push({ [Symbol.asyncDispose]: async () => await client.close() })
  return client
}

async function put(registry: TestRegistry, name: string, content: string): Promise<void> {
  await mkdir(join(folder, registry.host), { recursive: true })
  await writeFile(join(folder, registry.host, name), content)
}

describe('TLS', () => {
  it('a certificate is verified by the authorities of the configuration, whatever the environment says', async () => {
    vi.stubEnv('NODE_TLS_REJECT_UNAUTHORIZED', '0')
    const own = selfSigned()
    const registry = await registryWith(own)
    await put(registry, 'ca.crt', selfSigned().cert)
    const get = async (): Promise<unknown> =>
      await clientWith().repository(registry.repository).manifest(LATEST, { signal })
    await expect(get()).rejects.toThrow('is not trusted')
    expect(registry.seen).toEqual([])
    await put(registry, 'ca.crt', own.cert)
    expect(await get()).toMatchObject({ mediaType: MEDIA.manifest })
  })

  it('on this machine HTTPS without verification comes first, then HTTP', async () => {
    const secure = await registryWith(selfSigned())
    const plain = await registryWith()
    for (const registry of [secure, plain])
      expect(await clientWith().repository(registry.repository).manifest(LATEST, { signal })).toMatchObject({
        mediaType: MEDIA.manifest,
      })
  })

  describe('of a host whose first connection breaks', () => {
    const plain: string[] = []
    let registry: TestRegistry
    let host: string
    beforeEach(async () => {
      plain.length = 0
      registry = await registryWith(selfSigned())
      let isFirst = true
      host = await rawServer((socket) => {
        socket.once('data', (bytes) => {
          const isTls = bytes[0] === 0x16
          if (!isTls) {
            plain.push(bytes.toString())
            // Others have time to come by TLS.
            setTimeout(() => socket.destroy(), 100)
          } else if (isFirst) socket.destroy()
          else relay(socket, registry.port, bytes)
          isFirst = false
        })
      })
    })

    it('HTTP is tried by that request alone', async () => {
      const repository = clientWith().repository(parseReference(`${host}/fx/app`).repository)
      await Promise.all([1, 2, 3].map(async () => await repository.manifest(LATEST, { signal })))
      expect(plain).toHaveLength(1)
    })

    it('nothing else is taken for HTTP afterwards', async () => {
      registry.behave = (_, answer) =>
        !!answer.writeHead(401, { 'www-authenticate': `Bearer realm="http://${host}/token"` }).end()
      const access = { credentials: { username: 'me', password: 'pw' } }
      const repository = clientWith().repository(parseReference(`${host}/fx/app`).repository, access)
      await expect(repository.manifest(LATEST, { signal })).rejects.toThrow('was led to from HTTPS')
      expect(plain.filter((head) => /authorization/i.test(head))).toEqual([])
    })
  })

  it('`insecure` is for the host that was named, also with a configuration', async () => {
    const registry = await registryWith()
    await put(registry, 'hosts.toml', `server = "https://${registry.host}"\n`)
    const client = clientWith()
    await expect(client.repository(registry.repository).manifest(LATEST, { signal })).rejects.toMatchObject({
      code: 'registry_unavailable',
    })
    await client.repository(registry.repository, { insecure: true }).manifest(LATEST, { signal })
    // What was connected so is not what others are given.
    await expect(client.repository(registry.repository).manifest(LATEST, { signal })).rejects.toMatchObject({
      code: 'registry_unavailable',
    })
  })

  it('a client certificate is shown to its registry, and not where that leads', async () => {
    const [server, user] = [selfSigned(), selfSigned('a client')]
    const registry = await registryWith({ ...server, ca: user.cert })
    const other = await registryWith({ ...server, ca: user.cert })
    const shown: boolean[] = []
    const look = (where: TestRegistry): void => {
      const { behave } = where
      where.behave = (request, answer) => {
        const socket = request.socket as unknown as { getPeerCertificate: () => object }
        shown.push(Object.keys(socket.getPeerCertificate()).length > 0)
        return behave(request, answer)
      }
    }
    registry.behave = (request, answer) => !!answer.writeHead(307, { location: other.url + (request.url ?? '') }).end()
    look(registry)
    look(other)
    await put(registry, 'ca.pem', server.cert)
    await put(registry, 'user.pem', user.cert + user.key)
    await put(
      registry,
      'hosts.toml',
      `server = "${registry.url}"\nca = "ca.pem"\nclient = "user.pem"\nredirects = ["${other.host}"]\n`,
    )
    await clientWith().repository(registry.repository).manifest(LATEST, { signal })
    expect(shown).toEqual([true, false])
  })
})

/** Accepts connections, and does with them what a test wants. */
const codeOf = (error: unknown): unknown => (error as { code?: unknown }).code

/** What came already goes first. */
function relay(socket: Socket, port: number, bytes: Buffer): void {
  const upstream = connect(port, '127.0.0.1').on('error', () => socket.destroy())
  upstream.write(bytes)
  socket.on('close', () => upstream.destroy())
  socket.pipe(upstream).pipe(socket)
}

async function rawServer(listener: (socket: Socket) => void): Promise<string> {
  const sockets = new Set<Socket>()
  const server = createRawServer((socket) => {
    sockets.add(socket.on('error', () => undefined))
    listener(socket)
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  stack.push({
    [Symbol.asyncDispose]: async () => {
      server.close()
      for (const socket of sockets) socket.destroy()
      await Promise.resolve()
    },
  })
  return `127.0.0.1:${(server.address() as AddressInfo).port}`
}

describe('connections', () => {
  it('that are not there in time are given up, with TLS', async () => {
    const host = await rawServer(() => undefined)
    await mkdir(join(folder, host))
    await writeFile(join(folder, host, 'hosts.toml'), `server = "https://${host}"\n`)
    const repository = clientWith({}, { connectMs: 100, maxAttempts: 1 }).repository(
      parseReference(`${host}/a`).repository,
    )
    await expect(repository.manifest(LATEST, { signal })).rejects.toThrow('did not accept a connection within 0.1 s')
    // Who asks may leave before that.
    const slow = clientWith({}, { connectMs: 600_000 }).repository(parseReference(`${host}/a`).repository)
    const leave = new AbortController()
    const asked = slow.manifest(LATEST, { signal: leave.signal })
    const reason = new Error('left')
    leave.abort(reason)
    await expect(asked).rejects.toBe(reason)
  })

  it('that are not there yet are given up with the request that wants them', async () => {
    const accepted = Promise.withResolvers<Socket>()
    const host = await rawServer((socket) => accepted.resolve(socket))
    const repository = clientWith({}, { connectMs: 600_000 }).repository(parseReference(`${host}/a`).repository)
    const leave = new AbortController()
    const asked = repository.manifest(LATEST, { signal: leave.signal })
    const socket = await accepted.promise
    const closed = new Promise((resolve) => socket.once('close', resolve))
    // The TLS handshake is never answered.
    socket.resume()
    leave.abort(new Error('left'))
    await expect(asked).rejects.toThrow('left')
    await closed
  })

  it('to one host are at most as many as the limit says, also while they are made', async () => {
    const open = new Set<Socket>()
    let most = 0
    const host = await rawServer((socket) => {
      most = Math.max(most, open.add(socket).size)
      socket.on('close', () => open.delete(socket))
      socket.on('data', () => socket.write('HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n'))
    })
    await mkdir(join(folder, host))
    await writeFile(join(folder, host, 'hosts.toml'), `server = "http://${host}"\n`)
    const repository = clientWith({}, { maxConnections: 2 }).repository(parseReference(`${host}/a`).repository)
    const ask = async (): Promise<unknown> => await repository.manifest(LATEST, { signal }).catch(codeOf)
    const codes = await Promise.all(Array.from({ length: 20 }, ask))
    expect(codes).toEqual(codes.map(() => 'manifest_not_found'))
    expect(most).toBe(2)
  })

  it('are kept for the next request', async () => {
    const registry = await registryWith()
    const ports = new Set<number | undefined>()
    registry.behave = (request) => {
      ports.add(request.socket.remotePort)
      return false
    }
    const repository = clientWith().repository(registry.repository)
    for (let times = 0; times < 3; times++) await repository.manifest(LATEST, { signal })
    expect(ports.size).toBe(1)
  })
})

describe('mirrors', () => {
  it('are asked first, each for what it may do, and get no credentials', async () => {
    const [mirror, plain, registry] = [await registryWith(), await registryWith(), await registryWith()]
    await put(
      registry,
      'hosts.toml',
      `server = "${registry.url}"\n[host."${plain.url}"]\ncapabilities = ["pull"]\n[host."${mirror.url}"]\n`,
    )
    const client = clientWith()
    const repository = client.repository(registry.repository, { credentials: { username: 'ann', password: 'x' } })
    await repository.manifest(LATEST, { signal })
    expect(plain.seen).toEqual([])
    expect(mirror.lines).toEqual([`GET /v2/fx/app/manifests/latest?ns=${encodeURIComponent(registry.host)}`])
    expect(registry.seen).toEqual([])

    // One that wants credentials, one that fails: the registry itself has the blob.
    mirror.behave = (_, answer) => !!answer.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end()
    plain.behave = (_, answer) => !!answer.writeHead(500).end()
    const { digest, size } = registry.addBlob(Buffer.from('blob'))
    const { body } = await repository.blob({ digest, size }, { signal })
    expect((await bytesIn(body)).toString()).toBe('blob')
    expect(mirror.seen.map(({ headers }) => headers.authorization)).toEqual([undefined, undefined])
  })
})

describe('proxies', () => {
  it.each([
    ['https://a.example/', { HTTPS_PROXY: 'http://p:1' }, 'http://p:1/'],
    ['https://a.example/', { https_proxy: 'p:1' }, 'http://p:1/'],
    ['https://a.example/', { HTTP_PROXY: 'http://p:1' }, undefined],
    ['http://a.example/', { HTTP_PROXY: 'http://p:1' }, 'http://p:1/'],
    ['https://a.example/', { HTTPS_PROXY: 'http://p:1', NO_PROXY: 'a.example' }, undefined],
    ['https://b.a.example/', { HTTPS_PROXY: 'http://p:1', NO_PROXY: 'a.example' }, undefined],
    ['https://ba.example/', { HTTPS_PROXY: 'http://p:1', NO_PROXY: 'a.example' }, 'http://p:1/'],
    ['https://a.example/', { HTTPS_PROXY: 'http://p:1', NO_PROXY: '.a.example' }, 'http://p:1/'],
    ['https://b.a.example/', { HTTPS_PROXY: 'http://p:1', no_proxy: 'x, .a.example' }, undefined],
    ['https://a.example/', { HTTPS_PROXY: 'http://p:1', NO_PROXY: 'a.example:8443' }, 'http://p:1/'],
    ['https://a.example:8443/', { HTTPS_PROXY: 'http://p:1', NO_PROXY: 'a.example:8443' }, undefined],
    ['https://10.1.2.3/', { HTTPS_PROXY: 'http://p:1', NO_PROXY: '10.0.0.0/8' }, undefined],
    ['https://10.1.2.3/', { HTTPS_PROXY: 'http://p:1', NO_PROXY: '10.1.2.4' }, 'http://p:1/'],
    ['https://[fd00::1]/', { HTTPS_PROXY: 'http://p:1', NO_PROXY: 'fd00::/8' }, undefined],
    ['https://a.example/', { HTTPS_PROXY: 'http://p:1', NO_PROXY: '*' }, undefined],
    ['https://localhost/', { HTTPS_PROXY: 'http://p:1' }, undefined],
    ['https://127.0.0.9/', { HTTPS_PROXY: 'http://p:1' }, undefined],
    ['https://a.example/', { HTTPS_PROXY: '' }, undefined],
  ] as const)('%s with %j goes through %s', (url, environment, proxy) =>
    expect(proxyFor(new URL(url), environment)?.url.href).toBe(proxy),
  )

  it('that are none are told', () => {
    expect(() => proxyFor(new URL('https://a.example'), { HTTPS_PROXY: 'socks5://p' })).toThrow('HTTPS_PROXY')
  })

  it.each([
    ['an answer without end', 'HTTP/1.1 200 OK\r\n' + 'x: y\r\n'.repeat(10_000)],
    ['a refusal', 'HTTP/1.1 407 Proxy Authentication Required\r\n\r\n'],
    ['bytes behind its answer', 'HTTP/1.1 200 OK\r\n\r\nhello'],
  ])('that give %s are given up', async (_, answer) => {
    const proxy = await rawServer((socket) => socket.once('data', () => socket.write(answer)))
    const client = clientWith({ HTTPS_PROXY: `http://${proxy}` }, { maxAttempts: 1 })
    const repository = client.repository(parseReference('registry.example/a').repository)
    await expect(repository.manifest(LATEST, { signal })).rejects.toMatchObject({ code: 'registry_unavailable' })
  })

  it('open a tunnel for HTTPS, and are asked for HTTP, with their own credentials', async () => {
    const cert = selfSigned('registry.example')
    const secure = await registryWith(cert)
    const plain = await registryWith()
    const seen: string[] = []
    const proxy = await startProxy(secure.port, plain.port, seen)
    const environment = { HTTPS_PROXY: `http://ann:p%40ss@${proxy}`, HTTP_PROXY: `http://ann:p%40ss@${proxy}` }
    await mkdir(join(folder, '_default'), { recursive: true })
    await writeFile(join(folder, '_default', 'hosts.toml'), 'skip_verify = true\n')
    const client = clientWith(environment)
    const secureName = parseReference('registry.example/fx/app').repository
    await client.repository(secureName).manifest(LATEST, { signal })
    await mkdir(join(folder, 'plain.example'))
    await writeFile(join(folder, 'plain.example', 'hosts.toml'), 'server = "http://plain.example"\n')
    const plainName = parseReference('plain.example/fx/app').repository
    await client.repository(plainName).manifest(LATEST, { signal })
    const basic = `Basic ${Buffer.from('ann:p@ss').toString('base64')}`
    expect(seen).toEqual([
      `CONNECT registry.example:443 ${basic}`,
      `GET http://plain.example/v2/fx/app/manifests/latest ${basic}`,
    ])
    expect(secure.seen[0]!.headers).not.toHaveProperty('proxy-authorization')
    // A literal address is refused here already: the proxy is not asked.
    plain.behave = (_, answer) => !!answer.writeHead(307, { location: 'http://10.0.0.1/' }).end()
    await expect(client.repository(plainName).manifest(LATEST, { signal })).rejects.toMatchObject({
      code: 'address_refused',
    })
    expect(seen).toHaveLength(3)
  })
})

/** Leads every tunnel to one port, and every other request to another. */
async function startProxy(secure: number, plain: number, seen: string[]): Promise<string> {
  const note = (method: string, url: string, authorization: string | undefined): void =>
    void seen.push(`${method} ${url} ${authorization ?? 'nobody'}`)
  const server: Server = createServer((request, answer) => {
    note(request.method!, request.url!, request.headers['proxy-authorization'])
    void fetch(`http://127.0.0.1:${plain}${new URL(request.url!).pathname}`, { redirect: 'manual' }).then(
      async (got) => {
        answer.writeHead(got.status, Object.fromEntries(got.headers))
        answer.end(Buffer.from(await got.arrayBuffer()))
      },
    )
  })
  server.on('connect', (request, socket) => {
    note('CONNECT', request.url!, request.headers['proxy-authorization'])
    const to = connect(secure, '127.0.0.1', () => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n')
      socket.pipe(to).pipe(socket)
    })
    for (const one of [to, socket]) one.on('error', () => [to, socket].forEach((each) => void each.destroy()))
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  stack.push({
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections()
      server.close()
      await Promise.resolve()
    },
  })
  return `127.0.0.1:${(server.address() as AddressInfo).port}`
}
