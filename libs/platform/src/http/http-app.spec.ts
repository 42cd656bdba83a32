import type { NestFastifyApplication } from '@nestjs/platform-fastify'
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import request from 'supertest'
import { MAX_TOLD } from '@strata/base'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { allowEveryone } from './authentication.js'
import { closeListener, openListener } from '../listener/open-listener.js'
import { createHttpApp } from './http-app.js'
import { loggingModule } from '../service/logging.js'
import { BODIES, LIMITS } from '../testing/limits.js'
import { Probe, Probed, TREES } from '../testing/probe-app.js'
import { RawClient, requestText } from '../testing/raw-client.js'

let app: NestFastifyApplication
let server: Server
beforeAll(async () => {
  const made = await createHttpApp(
    { module: Probed, imports: [loggingModule('silent')], controllers: [Probe] },
    { authentication: { unix: allowEveryone, tcp: allowEveryone, refusal: '' }, bodies: BODIES, trees: TREES },
  )
  app = made.app
  server = await openListener({ kind: 'tcp', host: '127.0.0.1', port: 0 }, made.handler, LIMITS)
})
afterAll(async () => {
  await closeListener(server, 100)
  await app.close()
})

describe('an HTTP application', () => {
  it.each([
    ['get', '/gone', 404, 'image_not_found'],
    ['get', '/broken', 500, 'internal'],
    ['get', '/nowhere', 404, 'not_found'],
    ['delete', '/gone', 404, 'not_found'],
    ['get', '/tree/gone', 404, 'image_not_found'],
    ['get', '/tree/broken', 500, 'internal'],
  ] as const)('answers %s %s with a problem', async (method, path, status, code) => {
    const answer = await request(server)[method](path)
    expect(answer.headers['content-type']).toContain('application/problem+json')
    expect(answer.body).toMatchObject({ type: 'about:blank', status, code })
    expect(answer.text).not.toContain('1234')
  })

  it.each([
    ['{', 'application/json', 'JSON'],
    ['{"n":"1"}', 'application/json', 'n: '],
    ['{"n":1,"m":2}', 'application/json', 'm'],
    ['[]', 'application/json', ''],
    ['', 'application/json', 'n: '],
  ])('refuses the body %j', async (text, type, says) => {
    const answer = await request(server).post('/echo').set('content-type', type).send(text)
    expect(answer.status).toBe(400)
    expect(answer.body).toMatchObject({ code: 'bad_request', detail: expect.stringContaining(says) as string })
  })

  it('takes a body that fits its schema', async () => {
    expect((await request(server).post('/echo').send({ n: 1 })).body).toEqual({ n: 1 })
  })

  it.each([
    ['form', 'application/x-www-form-urlencoded'],
    ['text', 'text/plain'],
    ['other JSON', 'application/problem+json'],
    ['no', ''],
  ])('refuses options of %s type, and does nothing', async (_, type) => {
    const { calls } = Probe
    calls.length = 0
    for (const coding of [['content-length: 15'], ['transfer-encoding: chunked']]) {
      const client = await RawClient.connect({ host: '127.0.0.1', port: (server.address() as AddressInfo).port })
      const body = '{"dryRun":true}'
      await client.send(
        requestText(
          'POST /optional',
          [...coding, ...(type === '' ? [] : [`content-type: ${type}`])],
          coding[0]!.startsWith('t') ? `f\r\n${body}\r\n0\r\n\r\n` : body,
        ),
      )
      expect(await client.receive(/\r\n\r\n[^]*\}/)).toMatch(/^HTTP\/1\.1 415 [^]*"code":"unsupported"/)
      client.socket.destroy()
    }
    expect(calls).toEqual([])
  })

  it('does what is asked without options where there is no body, whatever type it would have', async () => {
    for (const type of ['text/plain', 'application/json', undefined]) {
      const asked = request(server).post('/optional')
      const answer = await (type === undefined ? asked : asked.set('content-type', type))
      expect(answer.status, answer.text).toBe(type === 'application/json' ? 400 : 201)
    }
    expect((await request(server).post('/optional').send({ dryRun: true })).body).toEqual({ dryRun: true })
  })

  it('leaves a body to the route that reads it, and knows no route for one elsewhere', async () => {
    expect((await request(server).post('/raw').set('content-type', 'application/x-tar').send('12345')).body).toEqual({
      length: 5,
    })
    expect((await request(server).post('/nowhere').set('content-type', 'application/x-tar').send('12345')).status).toBe(
      404,
    )
  })

  it('leaves every body to a tree past the framework, JSON too, and drops what it does not read', async () => {
    for (const type of ['application/json', 'application/x-tar'])
      expect((await request(server).post('/tree/1').set('content-type', type).send('12345')).text).toBe('{"length":5}')
    const client = await RawClient.connect({ host: '127.0.0.1', port: (server.address() as AddressInfo).port })
    await client.send(requestText('POST /tree/gone', ['content-length: 100000'], 'x'.repeat(1_000)))
    expect(await client.receive(/\r\n\r\n[^]*\}/)).toMatch(/^HTTP\/1\.1 404 [^]*"code":"image_not_found"/)
    await client.send('x'.repeat(99_000))
    await client.closed
  })

  it('an answer of a tree has the id of its request', async () => {
    const [one, other] = await Promise.all([request(server).get('/tree/1'), request(server).get('/tree/gone')])
    const ids = [one, other].map(({ headers }) => (headers as Record<string, string>)['x-request-id'])
    expect(ids).toEqual([expect.stringMatching(/^[\da-f-]{36}$/), expect.stringMatching(/^[\da-f-]{36}$/)])
    expect(ids[0]).not.toBe(ids[1])
  })

  const members = (count: number): string => Array.from({ length: count }, (_, n) => `"k${n}":0`).join()

  it('a body with many unknown keys is refused in a bounded sentence', async () => {
    const answer = await request(server)
      .post('/echo')
      .set('content-type', 'application/json')
      .send(`{"n":1,${members(4_000)}}`)
    expect(answer.body).toMatchObject({ code: 'bad_request', detail: expect.stringContaining('"k0"') as string })
    expect((answer.body as { detail: string }).detail.length).toBeLessThanOrEqual(MAX_TOLD)
  })

  it.each([
    ['/echo', `{"n":1${' '.repeat(64 * 1024 - 7)}}`, 201, undefined],
    ['/echo', `{"n":1${' '.repeat(64 * 1024 - 6)}}`, 413, 'bytes'],
    ['/large', `{"n":1${' '.repeat(64 * 1024)}}`, 201, undefined],
    ['/large', `{"n":${'['.repeat(31)}${']'.repeat(31)}}`, 201, undefined],
    ['/large', `{"n":${'['.repeat(32)}${']'.repeat(32)}}`, 413, 'nested deeper than 32'],
    ['/large', `{"n":[${'{},'.repeat(19_997)}{}]}`, 201, undefined],
    ['/large', `{"n":[${'{},'.repeat(19_998)}{}]}`, 413, 'more than 20000 lists and objects'],
    ['/large', `{"n":[${'[],'.repeat(1_300_000)}1]}`, 413, 'more than 20000 lists and objects'],
    ['/large', `{"n":{${members(99_999)}}}`, 201, undefined],
    ['/large', `{"n":{${members(100_000)}}}`, 413, 'more than 100000 members'],
  ])('%s: JSON is bounded by what it holds, %#', async (path, body, status, says) => {
    const answer = await request(server).post(path).set('content-type', 'application/json').send(body)
    expect(answer.status, answer.text.slice(0, 200)).toBe(status)
    if (says !== undefined)
      expect(answer.body).toMatchObject({ code: 'limit_exceeded', detail: expect.stringContaining(says) as string })
  })
})
