import { execFile, spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { createSocket, type Socket as Datagrams } from 'node:dgram'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, request, type RequestListener, type Server } from 'node:http'
import { request as requestTls } from 'node:https'
import { connect, createServer as createTcpServer, type AddressInfo, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { ROOT } from './compose-file.js'

/**
 * infra/proxy/haproxy.cfg in a real HAProxy, between clients and gateways that are only HTTP
 * servers. The DNS that it asks is this process too, so that gateways come and go.
 */
const CONFIG = join(ROOT, 'infra/proxy/haproxy.cfg')
const STRATA = join(ROOT, 'apps/cli/bin/strata.mjs')
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
const gateways = new Map<string, Server>()
const proxies: ChildProcess[] = []
let port: number

/** What a client asks for by `/<name>` is noted under that name. */
const gateway: (address: string) => RequestListener = (address) => (incoming, answer) => {
  if (incoming.url === '/health/live') return void answer.end('{"status":"live"}')
  if (incoming.url!.startsWith('/v1/images')) return void answer.end('{"images":[]}')
  const is: Seen = { address, received: [], aborted: false }
  seen.set(incoming.url!.slice(1), is)
  answer.on('close', () => (is.aborted = !answer.writableFinished))
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

async function freePort(): Promise<number> {
  const server = createTcpServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port: free } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return free
}

/** At ports of their own, since a machine has one 4700. Gives the port of the API. */
async function startProxy(certificate = ''): Promise<number> {
  const [api, health] = [await freePort(), await freePort()]
  const config = join(folder, `proxy-${api}.cfg`)
  writeFileSync(
    config,
    readFileSync(CONFIG, 'utf8')
      .replaceAll('bind :4700', `bind 127.0.0.1:${api}`)
      .replace('bind 127.0.0.1:4799', `bind 127.0.0.1:${health}`),
  )
  const child = spawn('haproxy', ['-db', '-f', config], {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: {
      PATH: process.env['PATH'],
      STRATA_GATEWAYS: `gateway:${gatewayPort}`,
      STRATA_HEALTH_PORT: String(gatewayPort),
      STRATA_DNS: `127.0.0.1:${dns.address().port}`,
      STRATA_CERTIFICATE: certificate,
    },
  })
  proxies.push(child)
  await vi.waitFor(async () => expect(await ask(health, '/')).toMatch(/^[1-9] gateways\n$/), { timeout: 20_000 })
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
    dns = createSocket('udp4', (question, { port: from, address }) => dns.send(answerDns(question), from, address))
    dns.bind(0, '127.0.0.1')
    await once(dns, 'listening')
    gatewayPort = await freePort()
    await openGateway('127.0.0.2')
    port = await startProxy()
  }, 60_000)
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
    await expect.poll(() => seen.get(name)?.aborted, { timeout: 5_000 }).toBe(true)
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
    await expect.poll(async () => (await answers()).size, { timeout: 20_000 }).toBe(2)
    await closeGateway('127.0.0.2')
    // None fails, not even before the DNS has forgotten the address.
    for (let round = 0; round < 20; round++) expect([...(await answers())]).toEqual(['end at 127.0.0.3'])
  })

  it('ends TLS where there is a certificate', { timeout: 60_000 }, async () => {
    const [key, certificate] = [join(folder, 'key.pem'), join(folder, 'server.pem')]
    const made = spawnSync('openssl', [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'],
      ...['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost', '-keyout', key, '-out', certificate],
    ])
    expect(made.status).toBe(0)
    const ca = readFileSync(certificate)
    const authority = join(folder, 'ca.pem')
    writeFileSync(authority, ca)
    writeFileSync(certificate, Buffer.concat([ca, readFileSync(key)]))
    const at = await startProxy(certificate)
    const outgoing = requestTls({
      host: '127.0.0.1',
      servername: 'localhost',
      port: at,
      path: '/tls',
      ca,
      agent: false,
    })
    outgoing.end()
    const [answer] = (await once(outgoing, 'response')) as [Parameters<typeof text>[0]]
    expect(await text(answer)).toMatch(/^end at /)
    const env = { STRATA_HOST: `https://localhost:${at}`, STRATA_TOKEN: 'x', STRATA_TLS_CA: authority }
    const cli = await promisify(execFile)(STRATA, ['images'], { env: { PATH: process.env['PATH'], ...env } })
    expect(cli).toMatchObject({ stderr: '', stdout: expect.stringMatching(/^REPOSITORY .*\n$/) as string })
  })
})
