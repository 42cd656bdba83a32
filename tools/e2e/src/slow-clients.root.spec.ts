import { execFile } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { promisify } from 'node:util'
import type { JobView, Problem } from '@strata/api'
import { header, makeArchive, makeLayer } from '@strata/archive/testing'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { freePort } from '@strata/store/testing'
import { settledStore } from './testing/store-state.js'
import { StrataUnderTest, until } from './testing/strata.js'

const run = promisify(execFile)
let folder: string
let tree: Buffer
let archive: string
beforeAll(async () => {
  folder = mkdtempSync('/var/tmp/strata-slow-')
  tree = await makeLayer(new Map([['etc/secret', { content: randomBytes(3_000_000) }]]))
  archive = join(folder, 'a.tar')
  writeFileSync(archive, await makeArchive({ names: ['slow:1'], layers: [tree] }))
})
afterAll(() => rmSync(folder, { recursive: true }))

/**
 * What a client sends of an archive whose one file is large: after its headers, and from then on.
 */
interface Kind {
  readonly headers: string
  readonly first: readonly Buffer[]
  readonly drip: Buffer
}
const LENGTH = 100_000_000
const BEGINNING = [header({ name: 'big', size: LENGTH }), randomBytes(1024 * 1024)]
const chunk = (bytes: Buffer): Buffer =>
  Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, Buffer.from('\r\n')])
const plain = `content-length: ${LENGTH}`
const chunked = 'transfer-encoding: chunked'
const KINDS: readonly Kind[] = [
  { headers: plain, first: [], drip: Buffer.alloc(0) },
  { headers: plain, first: BEGINNING, drip: Buffer.alloc(0) },
  { headers: plain, first: [], drip: Buffer.from('b') },
  { headers: plain, first: BEGINNING, drip: Buffer.from('x') },
  { headers: chunked, first: BEGINNING.map(chunk), drip: chunk(Buffer.from('x')) },
]

class SlowClient {
  readonly job = randomUUID()
  readonly #socket: Socket
  readonly #timer: NodeJS.Timeout | undefined
  #answer = ''

  constructor(strata: StrataUnderTest, port: number | undefined, { headers, first, drip }: Kind) {
    this.#socket = port === undefined ? connect(strata.socket) : connect(port, '127.0.0.1')
    this.#socket.on('error', () => undefined).on('data', (text: Buffer) => (this.#answer += text.toString()))
    const token = port === undefined ? '' : `authorization: Bearer ${readFileSync(strata.tokenFile, 'utf8').trim()}\r\n`
    this.#socket.write(`POST /v1/images?job=${this.job} HTTP/1.1\r\nhost: x\r\n${token}${headers}\r\n\r\n`)
    for (const bytes of first) this.#socket.write(bytes)
    if (drip.length > 0) this.#timer = setInterval(() => this.#socket.write(drip), 100)
  }

  get answer(): string {
    return this.#answer
  }

  leave(): void {
    clearInterval(this.#timer)
    this.#socket.destroy()
  }
}

const jobOf = async (strata: StrataUnderTest, job: string): Promise<JobView> =>
  (await strata.request('GET', `/v1/jobs/${job}`)).json<JobView>()
const stateOf = async (strata: StrataUnderTest, job: string): Promise<string | undefined> =>
  (await jobOf(strata, job)).state
/**
 * What a client could leave in the gateway's process: threads and descriptors, by kind or path.
 * Folders are not of a client: the store holds those that it lists, and a watch of them, for a
 * while, whoever asks.
 */
function held(strata: StrataUnderTest): string[] {
  const proc = `/proc/${strata.pid('gateway')}`
  const threads = namesIn(`${proc}/task`, (path) => `thread ${readFileSync(`${path}/comm`, 'utf8').trim()}`)
  const descriptors = namesIn(`${proc}/fd`, (path) =>
    statSync(path, { throwIfNoEntry: false })?.isDirectory() ? 'folder' : readlinkSync(path).replace(/\[\d+\]$/, ''),
  )
  return [...threads, ...descriptors.filter((what) => what !== 'folder' && what !== 'anon_inode:inotify')]
}

/** Of each entry that is still there when it is looked at. */
function namesIn(folder: string, what: (path: string) => string): string[] {
  return readdirSync(folder).flatMap((name) => {
    try {
      return [what(`${folder}/${name}`)]
    } catch {
      return []
    }
  })
}

/** What is in `after` more often than in `before`. */
function added(before: readonly string[], after: readonly string[]): string[] {
  const known = [...before]
  return after.filter((what) => {
    const at = known.indexOf(what)
    if (at >= 0) known.splice(at, 1)
    return at < 0
  })
}

/** By the body over the socket, by the path, and as a tree. */
async function loadEachWay(strata: StrataUnderTest): Promise<void> {
  const { stdout } = await run('curl', [
    '-sS',
    '-T',
    archive,
    '--unix-socket',
    strata.socket,
    'http://strata/v1/images?prepare=false',
  ])
  expect(JSON.parse(stdout)).toMatchObject({ images: [{ names: ['slow:1'] }] })
  expect(await strata.cli(['load', '-q', archive])).toMatchObject({ code: 0, stderr: '' })
  const imported = await strata.request('POST', '/v1/images?import=slow:2', Readable.from([tree]))
  expect(imported.status, imported.bytes.toString()).toBe(201)
}

describe('clients that send slowly, or nothing', () => {
  let strata: StrataUnderTest
  let port: number
  let clients: SlowClient[] = []
  beforeAll(async () => {
    port = await freePort()
    strata = await StrataUnderTest.start({
      environment: { STRATA_PREPARE: 'false', STRATA_LISTEN: `127.0.0.1:${port}` },
    })
  })
  afterEach(() => {
    for (const client of clients.splice(0)) client.leave()
  })
  afterAll(() => strata.dispose())

  it('keep nobody else waiting, and nothing of them stays', async () => {
    await loadEachWay(strata)
    const before = held(strata)
    clients = Array.from(
      { length: 20 },
      (_, at) => new SlowClient(strata, at % 2 === 0 ? undefined : port, KINDS[at % KINDS.length]!),
    )
    await until(
      async () =>
        (await Promise.all(clients.map(({ job }) => stateOf(strata, job)))).every((state) => state === 'receiving'),
      'all are being received',
    )
    await loadEachWay(strata)
    // They live all the same, and can be cancelled.
    expect(await stateOf(strata, clients[1]!.job)).toBe('receiving')
    for (const { job } of clients.slice(0, 5)) await strata.request('DELETE', `/v1/jobs/${job}`)
    await until(
      () => clients.slice(0, 5).every(({ answer }) => answer.includes('"code":"cancelled"')),
      'five are told that they were cancelled',
    )
    for (const client of clients) client.leave()
    await until(
      async () =>
        (await Promise.all(clients.map(({ job }) => stateOf(strata, job)))).every(
          (state) => state === 'failed' || state === 'cancelled',
        ),
      'all have ended',
    )
    await settledStore(strata)
    await expect.poll(() => added(before, held(strata)), { timeout: 60_000 }).toEqual([])
  })
})

describe('a gateway of one reader and three uploads', () => {
  let strata: StrataUnderTest
  const clients: SlowClient[] = []
  beforeAll(async () => {
    strata = await StrataUnderTest.start({
      environment: { STRATA_PREPARE: 'false', STRATA_READERS: '1', STRATA_MAX_UPLOADS: '3' },
    })
  })
  afterEach(async () => {
    const left = clients.splice(0)
    for (const client of left) client.leave()
    await until(
      async () =>
        (await Promise.all(left.map(({ job }) => stateOf(strata, job)))).every((state) => state !== 'receiving'),
      'all have ended',
    )
  })
  afterAll(() => strata.dispose())
  const slow = async (kind: Kind): Promise<SlowClient> => {
    const client = new SlowClient(strata, undefined, kind)
    clients.push(client)
    await until(async () => (await stateOf(strata, client.job)) === 'receiving', 'it is being received')
    return client
  }

  it('says what an upload waits for, and lets it have its turn', async () => {
    // So much that the reader is never without bytes.
    await slow({ headers: chunked, first: [chunk(BEGINNING[0]!)], drip: chunk(randomBytes(512 * 1024)) })
    const steps = new Set<string>()
    await until(async () => {
      const job = randomUUID()
      const loaded = strata.request('POST', `/v1/images?job=${job}`, Readable.from([readFileSync(archive)]))
      let isLoaded = false
      const done = loaded.then(({ status }) => {
        isLoaded = true
        expect(status).toBe(201)
      })
      await until(async () => {
        steps.add((await jobOf(strata, job)).step)
        return isLoaded
      }, 'it is loaded')
      await done
      return steps.has('waiting for a reader: 1 upload is being read')
    }, 'a load had to wait')
  })

  it('refuses a fourth at once, but no file of this machine', async () => {
    while (clients.length < 3) await slow(KINDS[1]!)
    const job = randomUUID()
    const refused = await strata.request('POST', `/v1/images?job=${job}`, Readable.from([readFileSync(archive)]))
    expect(refused.status).toBe(503)
    expect(refused.json<Problem>()).toMatchObject({
      code: 'overloaded',
      detail:
        '3 uploads are open, as many as this gateway takes at once (STRATA_MAX_UPLOADS): try again when one has ended',
    })
    expect((await strata.request('GET', `/v1/jobs/${job}`)).status).toBe(404)
    expect(await strata.cli(['load', '-q', archive])).toMatchObject({ code: 0, stderr: '' })
    clients[0]!.leave()
    await until(async () => (await stateOf(strata, clients[0]!.job)) !== 'receiving', 'one has ended')
    await loadEachWay(strata)
  })
})
