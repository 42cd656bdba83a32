import { truncate, writeFile } from 'node:fs/promises'
import type { ServerResponse } from 'node:http'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { sendJson, sendProblem, ServiceDouble } from '../testing/service-double.js'
import { outcome, start, strata } from '../testing/strata.js'

const digest = `sha256:${'a'.repeat(64)}`
const loaded = {
  images: [
    { id: digest, digest, names: ['fx/odd:3', 'fx/odd:4'], layers: 2 },
    { id: digest, digest, names: [], layers: 1 },
  ],
}
const printed = `Loaded image: fx/odd:3\nLoaded image: fx/odd:4\nLoaded image ID: ${digest}\n`

it('names a file’s descriptor, sends the file with its length where that is refused, and says in plain lines how it goes', async () => {
  await using service = await ServiceDouble.start()
  const archive = join(service.folder, 'a.tar')
  const bytes = Buffer.alloc(3_000_000, 'x')
  await writeFile(archive, bytes)
  // The load ends only after its step was told, so that the line must be there.
  const load = Promise.withResolvers<ServerResponse>()
  service.on('POST /v1/images', (seen, response) => {
    if (seen.headers['content-type'] === 'application/x-tar') load.resolve(response)
    else sendProblem(response, 415, 'descriptor_refused', 'it is on another machine')
  })
  service.on('GET /v1/jobs/{job}/events', (_seen, events) => {
    void load.promise.then((response) => {
      // The first try was followed too.
      if (events.destroyed) return
      events.writeHead(200, { 'content-type': 'text/event-stream' })
      events.write(
        'event: progress\ndata: {"state":"receiving","step":"waiting for a reader: 3 uploads are being read"}\n\n',
      )
      events.write('event: progress\ndata: {"state":"receiving","step":"receiving","bytes":7}\n\n')
      events.write('event: progress\ndata: {"state":"active","step":"extracting"}\n\n')
      events.end('event: end\ndata: {"state":"completed","step":"naming"}\n\n')
      events.on('close', () => sendJson(response, 201, loaded))
    })
  })
  const result = await strata(service, ['load', archive, '--name', 'n:1'])
  const [named, post] = service.seen.filter(({ method }) => method === 'POST')
  expect(JSON.parse(named!.body.toString())).toMatchObject({ fd: expect.any(Number) as number, size: '3000000' })
  expect(post!.headers['content-length']).toBe('3000000')
  expect(post!.body.equals(bytes)).toBe(true)
  expect(post!.url).toMatch(/^\/v1\/images\?job=[0-9a-f-]{36}&name=n%3A1$/)
  expect(result).toMatchObject({ code: 0, stdout: printed })
  expect(result.stderr).toMatch(
    /^sending 3MB\/3MB {2}100%.*\nwaiting for a reader: 3 uploads are being read\nextracting\n$/,
  )
})

it.each([['-'], []])('sends a pipe in chunks: load -q %s', async (...file) => {
  await using service = await ServiceDouble.start()
  service.json('POST /v1/images', 201, loaded)
  const input = Buffer.alloc(300_000, 'y')
  expect(await strata(service, ['load', '-q', ...file], { input })).toEqual({
    code: 0,
    signal: null,
    stdout: printed,
    stderr: '',
  })
  const post = await service.asked('POST', '/v1/images')
  expect(post.headers['transfer-encoding']).toBe('chunked')
  expect(post.body.equals(input)).toBe(true)
})

it('takes a refusal that comes before all bytes were sent', async () => {
  await using service = await ServiceDouble.start()
  service.on('POST /v1/images early', (_seen, response) => {
    // As the gateway: the answer is whole, and what still comes is dropped for a while before the
    // connection closes.
    const problem = JSON.stringify({
      type: 'about:blank',
      title: 'Bad Request',
      status: 400,
      code: 'archive_invalid',
      detail: 'this is no tar archive',
    })
    response.writeHead(400, {
      'content-type': 'application/problem+json',
      'content-length': problem.length,
      connection: 'close',
    })
    response.write(problem)
  })
  const archive = join(service.folder, 'big.tar')
  await writeFile(archive, '')
  await truncate(archive, 1e9)
  expect(await strata(service, ['load', '-qi', archive])).toMatchObject({
    code: 1,
    stdout: '',
    stderr: 'strata: Error response: this is no tar archive\n',
  })
})

it('cancels the job on Ctrl-C and ends with 130', async () => {
  await using service = await ServiceDouble.start()
  service.on('POST /v1/images early', () => undefined).json('DELETE /v1/jobs/{job}', 202)
  const child = start(service, ['load', '-'])
  const ended = outcome(child)
  child.stdin.on('error', () => undefined)
  child.stdin.write('some bytes')
  const post = await service.asked('POST', '/v1/images')
  child.kill('SIGINT')
  expect(await ended).toMatchObject({ code: 130, stdout: '', stderr: 'strata: the load was cancelled\n' })
  const cancelled = await service.asked('DELETE', '/v1/jobs/')
  expect(post.url).toContain(`job=${cancelled.url.slice('/v1/jobs/'.length)}`)
})

it('says what is wrong with the file', async () => {
  await using service = await ServiceDouble.start()
  expect(await strata(service, ['load', '/nonexistent.tar'])).toMatchObject({
    code: 1,
    stderr: 'strata: open /nonexistent.tar: no such file or directory\n',
  })
  expect((await strata(service, ['load', service.folder])).stderr).toContain('is a folder')
  expect(service.seen).toEqual([])
})
