import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { Readable } from 'node:stream'
import { concat, file, header, ZEROS } from '@strata/archive/testing'
import type { FileListView, JobView, Problem } from '@strata/api'
import { createHash, randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { guarded } from './testing/guard.js'
import { objectsOf, settledStore } from './testing/store-state.js'
import { StrataUnderTest, until } from './testing/strata.js'

const MEBIBYTE = 1024 * 1024
let strata: StrataUnderTest
beforeAll(async () => {
  strata = await StrataUnderTest.start({ environment: { STRATA_PREPARE: 'false' } })
})
afterAll(async () => {
  await strata.dispose()
})
guarded(() => strata)

/** Peak of resident memory, in bytes. */
const peak = (): number =>
  1024 * Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${strata.pid('gateway')}/status`, 'utf8'))?.[1])
const job = async (id: string): Promise<JobView> => (await strata.request('GET', `/v1/jobs/${id}`)).json<JobView>()

/** Entries of empty files as a tar, a thousand headers in a piece. */
function* emptyFiles(count: number): Generator<Buffer> {
  const one = header({ name: 'f/0000000', uid: 0, gid: 0, size: 0 })
  const checksum = parseInt(one.toString('latin1', 148, 154), 8)
  const piece = Buffer.alloc(512 * 1000)
  for (let from = 0; from < count; from += 1000) {
    for (let at = 0; at < 1000; at++) {
      const start = at * 512
      const number = String(from + at).padStart(7, '0')
      one.copy(piece, start)
      piece.write(number, start + 2, 'latin1')
      // The digits were zeros; the checksum grows by their sum.
      let sum = checksum
      for (const digit of number) sum += Number(digit)
      piece.write(sum.toString(8).padStart(6, '0'), start + 148, 'latin1')
    }
    yield Buffer.from(piece)
  }
}

describe('many small files', () => {
  it('a million in a layer load and are listed, and memory stays flat', async () => {
    const count = 1_000_000
    const hash = createHash('sha256')
    for (const piece of emptyFiles(count)) hash.update(piece)
    const digest = `sha256:${hash.update(ZEROS).digest('hex')}`
    const config = JSON.stringify({
      architecture: 'amd64',
      os: 'linux',
      rootfs: { type: 'layers', diff_ids: [digest] },
    })
    const manifest = JSON.stringify([{ Config: 'config.json', RepoTags: ['many/files:1'], Layers: ['layer.tar'] }])
    const before = peak()
    await strata.load(
      Readable.from(
        (function* () {
          yield concat(file('config.json', config), header({ name: 'layer.tar', size: count * 512 + ZEROS.length }))
          yield* emptyFiles(count)
          yield concat(ZEROS, file('manifest.json', manifest), ZEROS)
        })(),
      ),
    )
    // 512 MB travelled; an index of a million entries is some 50 MB.
    expect((peak() - before) / MEBIBYTE).toBeLessThan(250)
    const page = (
      await strata.request(
        'GET',
        `/v1/images/${encodeURIComponent('many/files:1')}/files?path=/f&offset=900000&limit=2`,
      )
    ).json<FileListView>()
    expect(page).toMatchObject({ files: [{ name: '0900000', size: 0 }, { name: '0900001' }], next: 900_002 })
    await strata.request('DELETE', `/v1/images/${encodeURIComponent('many/files:1')}`)
  })

  it('more than a hundred thousand in the archive itself are refused', async () => {
    const before = await settledStore(strata)
    const answer = await strata.request('POST', '/v1/images', Readable.from(emptyFiles(150_000)))
    expect(answer.json()).toMatchObject({ status: 413, code: 'limit_exceeded' })
    expect(await settledStore(strata)).toEqual(before)
  })
})

describe('a client that goes', () => {
  const ended = async (id: string): Promise<JobView> => {
    await until(async () => ['failed', 'cancelled', 'completed'].includes((await job(id)).state), 'the job has ended')
    return job(id)
  }

  it('in the middle of its body', async () => {
    const before = await settledStore(strata)
    const id = randomUUID()
    const socket = connect(strata.socket)
    socket.on('error', () => undefined)
    socket.write(`PUT /v1/images?job=${id} HTTP/1.1\r\nhost: x\r\ncontent-length: 100000000\r\n\r\n`)
    socket.write(header({ name: 'big', size: 90_000_000 }))
    await until(async () => {
      socket.write(Buffer.alloc(100_000))
      return (await job(id)).bytes > 1_000_000
    }, 'bytes have come')
    expect(await job(id)).toMatchObject({ kind: 'load', state: 'receiving', total: 100_000_000 })
    expect(await objectsOf(strata, 'uploads/')).toHaveLength(1)
    socket.destroy()
    expect(await ended(id)).toMatchObject({ state: 'failed', error: { code: 'upload_interrupted' } })
    expect(await settledStore(strata)).toEqual(before)
  })

  it('by kill -9', async () => {
    const before = await settledStore(strata)
    const id = randomUUID()
    const curl = spawn(
      'curl',
      ['-sS', '--unix-socket', strata.socket, '-T', '-', `http://localhost/v1/images?job=${id}`],
      { stdio: ['pipe', 'ignore', 'ignore'] },
    )
    curl.stdin.on('error', () => undefined)
    curl.stdin.write(header({ name: 'big', size: 90_000_000 }))
    await until(async () => {
      curl.stdin.write(Buffer.alloc(100_000))
      return (await job(id)).bytes > 1_000_000
    }, 'bytes have come')
    curl.kill('SIGKILL')
    expect(await ended(id)).toMatchObject({ state: 'failed', error: { code: 'upload_interrupted' } })
    expect(await settledStore(strata)).toEqual(before)
  })
})

describe('hostile requests', () => {
  it.each([
    ['GET', '/v1/images/..%2f..%2fetc%2fpasswd'],
    ['GET', '/v1/images/%00'],
    ['GET', `/v1/images/${'a'.repeat(600)}`],
    ['GET', '/v1/images/%ff%fe'],
    ['DELETE', '/v1/images/_tags'],
    ['DELETE', '/v1/images/*'],
    ['GET', '/v1/images/sha256:'],
    ['POST', '/v1/images/..%2f/mount'],
    ['GET', '/v1/jobs/..%2f..%2fimages'],
    ['GET', '/v1/jobs/not-a-uuid'],
    ['DELETE', '/v1/jobs/%0d%0aSET%20a%20b'],
    ['GET', '/v1/jobs?limit=-1'],
    ['GET', '/v1/jobs?limit=1e99'],
    ['GET', '/v1/jobs?limit=1&limit=2'],
    ['POST', '/v1/images?job=../../x'],
    ['POST', '/v1/images?job=%00'],
    ['POST', '/v1/images?wait=maybe'],
    ['POST', '/v1/images?name=UP//er'],
    ['POST', `/v1/images?name=${'a'.repeat(500)}`],
    ['POST', '/v1/images?prepare[]=1&wait[x]=2&job[__proto__]=3'],
    ['GET', '/v1/containers/..%2f..%2fx'],
    ['GET', '/v1/containers/x/logs?tail=-5'],
    ['GET', '/v1/containers?all=perhaps'],
    ['GET', '/v1/containers?limit=1001'],
    ['GET', '/v1/containers?after=..'],
    ['GET', '/v1/nodes?limit=0'],
    ['GET', '/v1/nodes?after=%00'],
    ['GET', '/v1/jobs?after=00000000-0000-4000-8000-000000000000'],
    ['POST', '/v1/nothing'],
    ['GET', '/'],
    ['GET', '//v1//images'],
  ])('%s %s is refused by a problem', async (method, path) => {
    const answer = await strata.request(
      method,
      path,
      method === 'POST' && path.startsWith('/v1/images?') ? Readable.from([Buffer.from('x')]) : undefined,
    )
    expect(answer.headers['content-type'], answer.bytes.toString()).toMatch(/^application\/problem\+json/)
    const problem = answer.json<Problem>()
    expect([problem.status >= 400, problem.status < 500, problem.status], problem.detail).toEqual([
      true,
      true,
      answer.status,
    ])
    expect(problem.detail).toMatch(/^[^\n]{5,1000}$/)
  })

  it.each([
    ['null'],
    ['[]'],
    ['"x"'],
    ['{"image": 7}'],
    ['{"image": "x", "nonsense": 1}'],
    ['{"image":"x","env":["A"],"command":"ls"}'],
    ['{"__proto__": {"image": "x"}}'],
    ['{"image":"x","name":"../x"}'],
    ['{"image":"x","user":"a\\u0000b"}'],
  ])('a container of %s is refused', async (body) => {
    const answer = await new Promise<{ status: number; text: string }>((resolve, reject) => {
      const curl = spawn(
        'curl',
        [
          '-sS',
          '--unix-socket',
          strata.socket,
          '-H',
          'content-type: application/json',
          '--data-binary',
          '@-',
          '-w',
          '\n%{http_code}',
          'http://localhost/v1/containers',
        ],
        { stdio: ['pipe', 'pipe', 'inherit'] },
      )
      let text = ''
      curl.stdout.on('data', (piece: Buffer) => (text += piece.toString()))
      curl.once('error', reject).once('close', () => resolve({ status: Number(text.slice(-3)), text }))
      curl.stdin.on('error', () => undefined)
      curl.stdin.end(body)
    })
    expect(answer.text).toContain('"type":"about:blank"')
    expect([400, 413]).toContain(answer.status)
  })

  it('an archive may say that it is anything', async () => {
    for (const type of ['application/json', 'text/plain', 'multipart/form-data; boundary=x', 'nonsense']) {
      const curl = spawn(
        'curl',
        [
          '-sS',
          '--unix-socket',
          strata.socket,
          '-H',
          `content-type: ${type}`,
          '--data-binary',
          '@-',
          '-w',
          '\n%{http_code}',
          'http://localhost/v1/images',
        ],
        { stdio: ['pipe', 'pipe', 'inherit'] },
      )
      let text = ''
      curl.stdout.on('data', (piece: Buffer) => (text += piece.toString()))
      curl.stdin.end(Buffer.from('no tar at all'))
      await new Promise((resolve) => curl.once('close', resolve))
      expect(text, type).toMatch(/"code":"(archive_invalid|archive_truncated|bad_request|unsupported)"/)
    }
    await settledStore(strata)
    expect((await strata.request('GET', '/v1/health/ready')).status).toBe(200)
  })
})
