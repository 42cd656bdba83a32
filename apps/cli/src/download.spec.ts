import { execFile, execFileSync } from 'node:child_process'
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import type { ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { text } from 'node:stream/consumers'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Client } from './client.js'
import { fetchWhole } from './download.js'
import { unixEndpoint } from './endpoint.js'
import { ServiceDouble, type Seen } from './testing/service-double.js'
import { outcome, start, type Outcome } from './testing/strata.js'

const PATH = '/v1/images/x/export'
const BYTES = 'ABCDEFGHIJKLMNOPQRST'

let service: ServiceDouble
let folder: string
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'strata-download-'))
  service = await ServiceDouble.start()
})
afterEach(async () => {
  await service[Symbol.asyncDispose]()
  rmSync(folder, { recursive: true })
})

/** Sends the bytes and then breaks the connection, unless they are all that the headers promise. */
function send(response: ServerResponse, status: number, headers: Record<string, string | number>, bytes: string): void {
  response.writeHead(status, { etag: '"a"', ...headers })
  if (Number(headers['content-length']) === bytes.length) response.end(bytes)
  else response.write(bytes, () => response.destroy())
}
const startOf = ({ headers }: Seen): number | undefined =>
  headers.range === undefined ? undefined : Number(/^bytes=(\d+)-$/.exec(headers.range)?.[1])

/** The first answer has ten bytes of twenty; `rest` answers what is asked for then. */
function breaking(rest: (start: number, response: ServerResponse) => void): void {
  service.on(`GET ${PATH}`, (seen, response) => {
    const from = startOf(seen)
    if (from === undefined) send(response, 200, { 'content-length': 20 }, BYTES.slice(0, 10))
    else rest(from, response)
  })
}
const range = (from: number, end: number, total = 20): Record<string, string | number> => ({
  'content-range': `bytes ${from}-${end - 1}/${total}`,
  'content-length': end - from,
})

/** The bytes, and the pauses that were made; or why there are none. */
async function fetched(): Promise<{ bytes?: string; error?: string; pauses: number[] }> {
  const to = new PassThrough()
  const pauses: number[] = []
  const pause = (ms: number): Promise<unknown> => Promise.resolve(pauses.push(ms))
  const read = text(to)
  try {
    await fetchWhole(new Client(unixEndpoint(service.socket)), PATH, to, pause)
    to.end()
    return { bytes: await read, pauses }
  } catch (error) {
    to.end()
    return { error: (error as Error).message, pauses }
  }
}

describe('the rest of a download that broke', () => {
  it('is asked for, and the whole is there', async () => {
    breaking((from, response) => send(response, 206, range(from, 20), BYTES.slice(from)))
    expect(await fetched()).toEqual({ bytes: BYTES, pauses: [100] })
  })

  it('may come in several parts', async () => {
    breaking((from, response) => send(response, 206, range(from, from + 5), BYTES.slice(from, from + 5)))
    expect(await fetched()).toEqual({ bytes: BYTES, pauses: [100, 200] })
  })

  it('is not asked for where all is there', async () => {
    service.on(`GET ${PATH}`, (_seen, response) => {
      response.writeHead(200, { etag: '"a"', 'content-length': 20 })
      response.write(BYTES, () => response.destroy())
    })
    expect(await fetched()).toEqual({ bytes: BYTES, pauses: [] })
    expect(service.seen).toHaveLength(1)
  })

  it.each<[name: string, status: number, headers: Record<string, string | number>, says: string]>([
    ['the whole again as a part', 206, range(0, 20), 'the bytes from 10 were asked for'],
    ['a part too far', 206, range(11, 20), 'the bytes from 10 were asked for'],
    ['a part of a longer whole', 206, range(10, 30, 30), 'the bytes from 10 were asked for'],
    ['a part of no known whole', 206, { 'content-range': 'bytes 10-19/*', 'content-length': 10 }, 'the bytes from 10'],
    ['a part that does not say which', 206, { 'content-length': 10 }, 'the bytes from 10 were asked for'],
    ['more than the part', 206, { ...range(10, 20), 'content-length': 15 }, 'more was sent'],
    ['the whole', 200, { 'content-length': 20 }, 'has changed since'],
    ['a part of something else', 206, { ...range(10, 20), etag: '"b"' }, 'has changed since'],
  ])('is refused: %s', async (_, status, headers, says) => {
    breaking((_from, response) => send(response, status, headers, 'x'.repeat(Number(headers['content-length']))))
    expect((await fetched()).error).toContain(says)
    expect(service.seen).toHaveLength(2)
  })

  it('is asked for with longer and longer pauses, and then no more, where each part is a byte', async () => {
    breaking((from, response) => send(response, 206, range(from, 20), BYTES[from]!))
    const { error, pauses } = await fetched()
    expect(error).toBe('the connection broke 7 times, the last time after 16 bytes: begin again')
    expect(pauses).toEqual([100, 200, 400, 800, 1600, 3200])
    expect(service.seen).toHaveLength(7)
  })

  it('is asked for as often as there is progress', async () => {
    const piece = 2 * 1024 * 1024
    service.on(`GET ${PATH}`, (seen, response) => {
      const from = startOf(seen)
      const headers = from === undefined ? { 'content-length': 20 * piece } : range(from, 20 * piece, 20 * piece)
      response.writeHead(from === undefined ? 200 : 206, { etag: '"a"', ...headers })
      // The last piece is all that is left.
      if ((from ?? 0) + piece >= 20 * piece) response.end(Buffer.alloc(20 * piece - (from ?? 0)))
      else response.write(Buffer.alloc(piece), () => response.socket?.destroySoon())
    })
    const { bytes, pauses } = await fetched()
    expect(bytes).toHaveLength(20 * piece)
    expect(Math.max(...pauses)).toBeLessThanOrEqual(200)
  })
})

it.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)('%s during a download leaves no file', async (signal) => {
  service.on(`GET ${PATH}`, (_seen, response) => void response.writeHead(200, { 'content-length': 1e9 }).write(BYTES))
  const child = start(service, ['export', '-o', join(folder, 'x.tar'), 'x'])
  const ended = outcome(child)
  const sizes = (): number[] => readdirSync(folder).map((name) => statSync(join(folder, name)).size)
  await expect.poll(sizes, { timeout: 30_000 }).toEqual([BYTES.length])
  child.kill(signal)
  expect(await ended).toMatchObject({ code: 128 + { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 }[signal], signal: null })
  expect(readdirSync(folder)).toEqual([])
})

describe('what a path leads to', () => {
  const at = (name: string): string => join(folder, name)
  const exported = (path: string): Promise<Outcome> => outcome(start(service, ['export', '-o', path, 'x']))
  beforeEach(() => {
    service.on(`GET ${PATH}`, (_seen, response) => send(response, 200, { 'content-length': 20 }, BYTES))
  })

  it('a device is refused and left as it is', async () => {
    // One of the test's own: the machine's /dev/null would be gone if this failed.
    execFileSync('mknod', [at('device'), 'c', '1', '3'])
    symlinkSync(at('device'), at('link'))
    for (const path of [at('device'), at('link')])
      expect(await exported(path)).toMatchObject({
        code: 1,
        stderr: `strata: invalid output path: "${path}" must be a regular file or a pipe: got a device. Redirect stdout to write there\n`,
      })
    expect(statSync(at('device')).isCharacterDevice()).toBe(true)
    expect(readlinkSync(at('link'))).toBe(at('device'))
    expect(service.seen).toEqual([])
  })

  it('a pipe gets the bytes', async () => {
    execFileSync('mkfifo', [at('pipe')])
    const reader = execFile('cat', [at('pipe')])
    const read = text(reader.stdout!)
    expect(await exported(at('pipe'))).toMatchObject({ code: 0, stderr: '' })
    expect(await read).toBe(BYTES)
    expect(statSync(at('pipe')).isFIFO()).toBe(true)
  })

  it('a link is followed, and a file keeps its mode', async () => {
    writeFileSync(at('file'), 'old', { mode: 0o600 })
    symlinkSync('file', at('link'))
    expect(await exported(at('link'))).toMatchObject({ code: 0, stderr: '' })
    expect(readlinkSync(at('link'))).toBe('file')
    expect(readFileSync(at('file'), 'utf8')).toBe(BYTES)
    expect(statSync(at('file')).mode & 0o777).toBe(0o600)
  })

  it('a folder, and a link that leads nowhere, are refused', async () => {
    symlinkSync('none', at('dangling'))
    expect((await exported(folder)).stderr).toBe(`strata: invalid output path: "${folder}" is a directory\n`)
    expect((await exported(at('dangling'))).stderr).toContain('is a link that leads nowhere\n')
    expect(service.seen).toEqual([])
  })
})

it('a file that cannot be written says so, and nothing is asked for twice', async () => {
  breaking((from, response) => send(response, 206, range(from, 20), BYTES.slice(from)))
  const whole = await outcome(start(service, ['export', '-o', join(folder, 'x.tar'), 'x']))
  expect(whole).toMatchObject({ code: 0 })
  expect(readFileSync(join(folder, 'x.tar'), 'utf8')).toBe(BYTES)
  const refused = await outcome(start(service, ['export', '-o', join(folder, 'none', 'x.tar'), 'x']))
  expect(refused.stderr).toBe(`strata: ${join(folder, 'none', 'x.tar')}: no such file or directory\n`)
})
