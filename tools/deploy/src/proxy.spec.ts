import { execFile, spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { createSocket, type Socket as Datagrams } from 'node:dgram'
import { once } from 'node:events'
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer, request, type RequestListener, type Server } from 'node:http'
import { request as requestTls } from 'node:https'
import { connect, type AddressInfo, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { connect as connectTls } from 'node:tls'
import { promisify } from 'node:util'
import { freePort } from '@strata/store/testing'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { ROOT } from './compose-file.js'

/**
 * infra/proxy/haproxy.cfg in a real HAProxy, between clients and gateways that are only HTTP
 * servers. The DNS that it asks is this process too, so that gateways come and go.
 */
const CONFIG = join(ROOT, 'infra/proxy/haproxy.cfg')
const STRATA = join(ROOT, 'apps/cli/bin/strata.mjs')
/** The address of all clients that docker hands over itself. */
const BRIDGE = '127.6.6.6'
const there = spawnSync('haproxy', ['-v']).error === undefined

interface Seen {
  readonly address: string
  readonly received: string[]
  aborted: boolean
}
const seen = new Map<string, Seen>()

let folder: string
let dns: Datagrams
let gatewayPort: number
let addresses: string[] = []
/** What the DNS waits before it answers, as docker's does under load. */
let dnsMs = 0
const gateways = new Map<string, Server>()
const proxies: ChildProcess[] = []
let port: number
/** What the proxies wrote to their logs. */
let log = ''
/** Ends the answer to `/later`. */
let endLater: () => void = () => undefined
/** How often a gateway received `/dies`. */
let deaths = 0

/** What a client asks for by `/<name>` is noted under that name. */
const gateway: (address: string) => RequestListener = (address) => (incoming, answer) => {
  if (incoming.url === '/health/live') return void answer.end('{"status":"live"}')
  if (incoming.url!.startsWith('/v1/images')) return void answer.end('{"images":[]}')
  const is: Seen = { address, received: [], aborted: false }
  seen.set(incoming.url!.slice(1), is)
  answer.on('close', () => (is.aborted = !answer.writableFinished))
  if (incoming.url === '/dies') {
    deaths++
    incoming.socket.destroy()
    return
  }
  if (incoming.url === '/refused') {
    answer.writeHead(401, { 'content-length': 4, connection: 'close' }).end('who?')
    return
  }
  if (incoming.url === '/later') {
    answer.write('begun;')
    endLater = () => answer.end('ended')
    return
  }
  if (incoming.url === '/begun') answer.flushHeaders()
  if (incoming.url === '/begun' || incoming.url === '/quiet') return
  incoming.on('data', (bytes: Buffer) => {
    is.received.push(bytes.toString())
    answer.write(`got ${bytes.length};`)
  })
  incoming.on('end', () => answer.end(`end at ${address}`))
}

async function openGateway(address: string): Promise<void> {
  const server = createServer({ maxHeaderSize: 131_072 }, gateway(address))
  server.on('upgrade', (_, socket) => {
    socket.write('HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n')
    socket.pipe(socket)
  })
  server.listen(gatewayPort, address)
  await once(server, 'listening')
  gatewayPort = (server.address() as AddressInfo).port
  gateways.set(address, server)
  addresses = [...addresses, address]
}

async function closeGateway(address: string): Promise<void> {
  addresses = addresses.filter((other) => other !== address)
  const server = gateways.get(address)!
  gateways.delete(address)
  server.closeAllConnections()
  await new Promise((resolve) => server.close(resolve))
}

/** One question, answered with all A records (RFC 1035). */
function answerDns(question: Buffer): Buffer {
  const end = question.indexOf(0, 12) + 5
  const isA = question.readUInt16BE(end - 4) === 1
  const found = isA ? addresses : []
  const head = Buffer.from(question.subarray(0, 12))
  head.writeUInt16BE(0x8180, 2)
  head.writeUInt16BE(found.length, 6)
  head.writeUInt16BE(0, 10)
  const records = found.map((address) =>
    Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, ...address.split('.').map(Number)]),
  )
  return Buffer.concat([head, question.subarray(12, end), ...records])
}

interface ProxyOptions {
  readonly certificate?: string
  /** What is different in its configuration. */
  readonly change?: (config: string) => string
}

/** At ports of their own, since a machine has one 4700. Gives the port of the API. */
async function startProxy({ certificate = '', change = (config) => config }: ProxyOptions = {}): Promise<number> {
  const [api, health] = [await freePort(), await freePort()]
  const config = join(folder, `proxy-${api}.cfg`)
  writeFileSync(
    config,
    change(readFileSync(CONFIG, 'utf8'))
      .replaceAll('bind :4700', `bind 127.0.0.1:${api}`)
      .replace('bind 127.0.0.1:4799', `bind 127.0.0.1:${health}`),
  )
  const child = spawn('haproxy', ['-W', '-db', '-f', config], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: {
      PATH: process.env['PATH'],
      STRATA_GATEWAYS: `gateway:${gatewayPort}`,
      STRATA_HEALTH_PORT: String(gatewayPort),
      STRATA_DNS: `127.0.0.1:${dns.address().port}`,
      STRATA_CERTIFICATE: certificate,
      STRATA_BRIDGE: BRIDGE,
    },
  })
  proxies.push(child)
  child.stdout.on('data', (bytes: Buffer) => (log += bytes.toString()))
  await vi.waitFor(async () => expect(await ask(health, '/')).toMatch(/^[1-9] gateways\n$/), { timeout: 60_000 })
  return api
}

async function ask(at: number, path: string, headers: Record<string, string> = {}): Promise<string> {
  const outgoing = request({ host: '127.0.0.1', port: at, path, headers, agent: false })
  outgoing.end()
  const [answer] = (await once(outgoing, 'response')) as [Parameters<typeof text>[0] & { statusCode: number }]
  const body = await text(answer)
  return answer.statusCode === 200 ? body : `${answer.statusCode}`
}

async function open(at: number): Promise<{ socket: Socket; heard: () => string }> {
  const socket = connect(at, '127.0.0.1')
  let all = ''
  socket.on('data', (bytes: Buffer) => (all += bytes.toString()))
  socket.on('error', () => undefined)
  await once(socket, 'connect')
  return { socket, heard: () => all }
}

// Skipped where it is not installed: apt-get install haproxy.
describe.runIf(there)('the proxy', () => {
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'strata-proxy-'))
    dns = createSocket('udp4', (question, { port: from, address }) => {
      const answer = (): void => dns.send(answerDns(question), from, address)
      if (dnsMs === 0) answer()
      else setTimeout(answer, dnsMs)
    })
    dns.bind(0, '127.0.0.1')
    await once(dns, 'listening')
    gatewayPort = await freePort()
    await openGateway('127.0.0.2')
    port = await startProxy()
  })
  afterAll(async () => {
    for (const child of proxies) if (child.exitCode === null) child.kill('SIGKILL')
    for (const address of [...gateways.keys()]) await closeGateway(address)
    dns.close()
    rmSync(folder, { recursive: true })
  })

  it('passes a body on while it comes, and the answer to it while that comes', async () => {
    const { socket, heard } = await open(port)
    socket.write('POST /stream HTTP/1.1\r\nhost: strata\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n')
    await expect.poll(() => seen.get('stream')?.received).toEqual(['one'])
    await expect.poll(heard).toContain('got 3;')
    socket.write('3\r\ntwo\r\n')
    await expect.poll(() => seen.get('stream')?.received).toEqual(['one', 'two'])
    socket.write('0\r\n\r\n')
    await expect.poll(heard).toContain('end at 127.0.0.2')
    socket.destroy()
  })

  it.each([
    ['before an answer', 'body', 'content-length: 100\r\n\r\nhalf'],
    ['that waits for an answer', 'quiet', '\r\n'],
    ['of whose answer nothing has come for a while', 'begun', '\r\n'],
  ])('tells the gateway of a client that is gone, %s', async (_, name, rest) => {
    const { socket } = await open(port)
    socket.write(`POST /${name} HTTP/1.1\r\nhost: strata\r\n${rest}`)
    await expect.poll(() => seen.has(name)).toBe(true)
    socket.destroy()
    await expect.poll(() => seen.get(name)?.aborted).toBe(true)
  })

  it('passes an upgrade', async () => {
    const { socket, heard } = await open(port)
    socket.write('GET /up HTTP/1.1\r\nhost: strata\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n')
    await expect.poll(heard).toMatch(/^HTTP\/1\.1 101 /)
    socket.write('echoed')
    await expect.poll(heard).toMatch(/echoed$/)
    socket.destroy()
  })

  it('takes heads as long as a gateway does', async () => {
    expect(await ask(port, '/long', { 'x-long': 'x'.repeat(120_000) })).toBe('end at 127.0.0.2')
    expect(await ask(port, '/longer', { 'x-long': 'x'.repeat(140_000) })).toBe('431')
  })

  it('answers a client that does not finish its headers, and lets it go', { timeout: 60_000 }, async () => {
    const { socket, heard } = await open(port)
    socket.write('GET /slow HTTP/1.1\r\n')
    await once(socket, 'close')
    expect(heard()).toMatch(/^HTTP\/1\.1 408 /)
  })

  it('finds a gateway more, spreads requests, and does without one that is gone', { timeout: 60_000 }, async () => {
    await openGateway('127.0.0.3')
    const answers = async () => new Set(await Promise.all(Array.from({ length: 8 }, () => ask(port, '/spread'))))
    await expect.poll(async () => (await answers()).size).toBe(2)
    await closeGateway('127.0.0.2')
    // None fails, not even before the DNS has forgotten the address.
    for (let round = 0; round < 20; round++) expect([...(await answers())]).toEqual(['end at 127.0.0.3'])
  })

  it('speaks HTTP/1.1 only', async () => {
    const { socket, heard } = await open(port)
    socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
    await expect.poll(heard).toMatch(/^HTTP\/1\.1 400 /)
    socket.destroy()
  })

  it('gives one address 500 connections, and then others still get theirs', { timeout: 60_000 }, async () => {
    const from = (): Socket => {
      const socket = connect({ port, host: '127.0.0.1', localAddress: '127.7.7.7' })
      return socket.on('error', () => undefined).resume()
    }
    const mine = Array.from({ length: 510 }, from)
    const left = () => mine.filter(({ closed }) => !closed)
    await expect.poll(() => left().length).toBe(500)
    const one = (): Promise<string> =>
      new Promise((resolve) => {
        const socket = from()
        let heard = ''
        socket.on('data', (bytes: Buffer) => (heard += bytes.toString())).on('close', () => resolve(heard))
        socket.write('GET /mine HTTP/1.1\r\nhost: strata\r\nconnection: close\r\n\r\n')
      })
    expect(await one()).toBe('')
    expect(await ask(port, '/other')).toMatch(/^end at /)
    // One that it closes makes room for another.
    left()[0]!.destroy()
    await expect.poll(one).toMatch(/^HTTP\/1\.1 200 /)
    for (const socket of mine) socket.destroy()
  })

  it('does not count the address of many clients', { timeout: 60_000 }, async () => {
    const from = (localAddress: string): Socket =>
      connect({ port, host: '127.0.0.1', localAddress })
        .on('error', () => undefined)
        .resume()
    // What is closed for being too many is closed before the one behind it gets an answer.
    const many = Array.from({ length: 510 }, () => from(BRIDGE))
    await Promise.all(many.map((socket) => once(socket, 'connect')))
    const last = from(BRIDGE)
    last.write('GET /behind-many HTTP/1.1\r\nhost: strata\r\n\r\n')
    const [bytes] = (await once(last, 'data')) as [Buffer]
    expect(bytes.toString()).toMatch(/^HTTP\/1\.1 200 /)
    expect(many.filter(({ closed }) => closed)).toEqual([])
    for (const socket of [...many, last]) socket.destroy()
  })

  it(
    'lets a client go that was answered and leaves its body unfinished, and none that waits',
    { timeout: 60_000 },
    async () => {
      const at = await startProxy({ change: (config) => config.replace('timeout client 1h', 'timeout client 5s') })
      const waiting = await open(at)
      waiting.socket.write('GET /later HTTP/1.1\r\nhost: strata\r\n\r\n')
      await expect.poll(waiting.heard).toContain('begun;')
      const { socket, heard } = await open(at)
      socket.write('POST /refused HTTP/1.1\r\nhost: strata\r\ncontent-length: 100\r\n\r\nhalf')
      await once(socket, 'close')
      expect(heard()).toMatch(/^HTTP\/1\.1 401 /)
      expect(waiting.heard()).not.toContain('ended')
      endLater()
      await expect.poll(waiting.heard).toContain('ended')
      waiting.socket.destroy()
    },
  )

  it('asks after a minute of silence whether a client is still there', async () => {
    const { socket } = await open(port)
    const [local, remote] = [socket.localPort!, port].map((number) =>
      number.toString(16).toUpperCase().padStart(4, '0'),
    )
    // Timer 02 is keep-alive's, then the hundredths of a second that are left.
    const timer = () =>
      readFileSync('/proc/net/tcp', 'utf8').match(
        new RegExp(`:${remote} 0100007F:${local} 01 \\S+ 02:([0-9A-F]+) `),
      )?.[1]
    await expect.poll(timer).toBeDefined()
    expect(parseInt(timer()!, 16)).toBeLessThanOrEqual(6_000)
    socket.destroy()
  })

  it('sends a request once, also where the gateway dies over it', async () => {
    const { socket, heard } = await open(port)
    socket.write('POST /dies HTTP/1.1\r\nhost: strata\r\ncontent-length: 2\r\n\r\n{}')
    await expect.poll(heard).toMatch(/^HTTP\/1\.1 502 /)
    expect(deaths).toBe(1)
    socket.destroy()
  })

  it('logs who asked for what, and no query', async () => {
    expect(await ask(port, '/logged"?change=ENV%20KEY%3Dhidden')).toMatch(/^end at /)
    await expect.poll(() => log).toMatch(/^127\.0\.0\.1:\d+ \[.* 200 .* "GET \/logged#22 HTTP\/1\.1"$/m)
    expect(log).not.toContain('hidden')
  })

  /** What start.sh does, with a program that says how HAProxy would be started. */
  function makeStart({ tls = '/nonexistent', route = '/proc/net/route', says = '$STRATA_CERTIFICATE' }) {
    const script = readFileSync(join(ROOT, 'infra/proxy/start.sh'), 'utf8')
      .replaceAll('/tls', tls)
      .replaceAll('/proc/net/route', route)
    const bin = mkdtempSync(join(folder, 'bin-'))
    writeFileSync(join(bin, 'haproxy'), `#!/bin/sh\necho "starts ${says}"\n`, { mode: 0o755 })
    // Root reads everything, unless it has no capabilities.
    const [command = '', ...args] = [
      ...(process.getuid!() === 0 ? ['setpriv', '--bounding-set', '-all'] : []),
      ...['sh', '-c', script],
    ]
    const env = { PATH: `${bin}:${process.env['PATH']}` }
    return () => spawnSync(command, args, { encoding: 'utf8', env })
  }

  it('starts without TLS only where there is no certificate', () => {
    const tls = join(folder, 'tls')
    const start = makeStart({ tls })
    expect(start().stdout).toBe('starts \n')
    mkdirSync(tls)
    expect(start().stdout).toBe('starts \n')
    // As a folder of keys is made, or one under a strict umask: what is in it does not show.
    const refusal = { status: 1, stdout: '', stderr: expect.stringContaining('chmod 0755') as string }
    for (const mode of [0o000, 0o444, 0o311]) {
      chmodSync(tls, mode)
      expect(start(), mode.toString(8)).toMatchObject(refusal)
    }
    chmodSync(tls, 0o755)
    // As certbot's, which leads out of the container.
    symlinkSync('../live/server.pem', join(tls, 'server.pem'))
    expect(start()).toMatchObject({ status: 1, stdout: '', stderr: expect.stringContaining('server.pem') as string })
    rmSync(join(tls, 'server.pem'))
    writeFileSync(join(tls, 'fullchain.pem'), '')
    expect(start()).toMatchObject({ status: 1, stdout: '', stderr: expect.stringContaining('fullchain.pem') as string })
    writeFileSync(join(tls, 'server.pem'), '')
    expect(start().stdout).toBe(`starts ${tls}/server.pem\n`)
    chmodSync(tls, 0o311)
    expect(start().stdout).toBe(`starts ${tls}/server.pem\n`)
    chmodSync(tls, 0o755)
    chmodSync(join(tls, 'server.pem'), 0)
    expect(start()).toMatchObject({ status: 1, stdout: '', stderr: expect.stringContaining('chmod 0640') as string })
  })

  it.each([
    ['eth1\t000011AC\t00000000\t0001\neth0\t00000000\t010012AC\t0003\t0\t0\t0\t00000000\n', '172.18.0.1'],
    ['eth1\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\n', '127.0.0.1'],
  ])("knows this machine's address in docker's network by the default route: %j", (lines, address) => {
    const route = join(folder, 'route')
    writeFileSync(route, `Iface\tDestination\tGateway\tFlags\n${lines}`)
    expect(makeStart({ route, says: '$STRATA_BRIDGE' })().stdout).toBe(`starts ${address}\n`)
  })

  describe('with TLS', () => {
    let certificate: string
    let ca: Buffer
    let at: number

    function makeCertificate(): void {
      const [key, made] = [join(folder, 'key.pem'), join(folder, 'made.pem')]
      const { status } = spawnSync('openssl', [
        ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'],
        ...['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost', '-keyout', key, '-out', made],
      ])
      expect(status).toBe(0)
      ca = readFileSync(made)
      writeFileSync(certificate, Buffer.concat([ca, readFileSync(key)]))
    }
    beforeAll(async () => {
      certificate = join(folder, 'server.pem')
      makeCertificate()
      at = await startProxy({ certificate })
    }, 60_000)

    async function get(path: string, trusted = ca): Promise<string> {
      const outgoing = requestTls({
        host: '127.0.0.1',
        servername: 'localhost',
        port: at,
        path,
        ca: trusted,
        agent: false,
      })
      outgoing.end()
      const [answer] = (await once(outgoing, 'response')) as [Parameters<typeof text>[0] & { statusCode: number }]
      return answer.statusCode === 200 ? text(answer) : `${answer.statusCode}`
    }

    it('ends it', { timeout: 60_000 }, async () => {
      expect(await get('/tls')).toMatch(/^end at /)
      const env = { STRATA_HOST: `https://localhost:${at}`, STRATA_TOKEN: 'x', STRATA_TLS_CA: join(folder, 'made.pem') }
      const cli = await promisify(execFile)(STRATA, ['images'], { env: { PATH: process.env['PATH'], ...env } })
      expect(cli).toMatchObject({ stderr: '', stdout: expect.stringMatching(/^REPOSITORY .*\n$/) as string })
    })

    it.each([
      ['TLS 1.1', { minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1', ciphers: 'ALL:@SECLEVEL=0' }],
      ['a cipher of CBC', { maxVersion: 'TLSv1.2', ciphers: 'ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA384' }],
    ] as const)('takes no %s', async (_, weak) => {
      const socket = connectTls({ port: at, host: '127.0.0.1', servername: 'localhost', ca, ...weak })
      const [error] = (await once(socket, 'error')) as [NodeJS.ErrnoException]
      expect(error.code).toMatch(/^ERR_SSL_.*ALERT|^ECONNRESET$/)
    })

    it('takes a new certificate, and no request is lost or cut off', { timeout: 60_000 }, async () => {
      const later = get('/later')
      later.catch(() => undefined)
      await expect.poll(() => seen.has('later')).toBe(true)
      const old = ca
      makeCertificate()
      dnsMs = 100
      proxies.at(-1)!.kill('SIGUSR2')
      // Each one is answered, by the old process or the new one.
      let isNew = false
      while (!isNew) {
        const answer = await get('/meanwhile', Buffer.concat([old, ca]))
        expect(answer).toMatch(/^end at /)
        isNew = await get('/new').then(
          (text) => text.startsWith('end at ') || expect.fail(text),
          () => false,
        )
      }
      dnsMs = 0
      // Loads and logs take longer than this.
      setTimeout(endLater, 11_000)
      expect(await later).toBe('begun;ended')
    })

    it('keeps two replaced processes with their connections, and no more', { timeout: 60_000 }, async () => {
      const stream = async () => {
        const socket = connectTls({ port: at, host: '127.0.0.1', servername: 'localhost', ca })
        socket.on('error', () => undefined)
        socket.write('GET /begun HTTP/1.1\r\nhost: strata\r\n\r\n')
        await once(socket, 'data')
        return socket.resume()
      }
      const renew = async () => {
        makeCertificate()
        proxies.at(-1)!.kill('SIGUSR2')
        await expect.poll(() => get('/renewed').catch(String)).toMatch(/^end at /)
      }
      const first = await stream()
      await renew()
      const second = await stream()
      await renew()
      expect([first.closed, second.closed]).toEqual([false, false])
      await renew()
      await expect.poll(() => first.closed).toBe(true)
      expect(second.closed).toBe(false)
      second.destroy()
    })
  })
})
