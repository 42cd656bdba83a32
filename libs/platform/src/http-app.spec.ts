import type { NestFastifyApplication } from '@nestjs/platform-fastify'
import type { Server } from 'node:http'
import request from 'supertest'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { allowEveryone } from './authentication.js'
import { closeDoor, openDoor } from './doors.js'
import { createHttpApp } from './http-app.js'
import { loggingModule } from './logging.js'
import { BODIES, LIMITS } from './testing/limits.js'
import { Probe, Probed } from './testing/probe-app.js'

let app: NestFastifyApplication
let server: Server
beforeAll(async () => {
  const made = await createHttpApp({ module: Probed, imports: [loggingModule('silent')], controllers: [Probe] }, { authentication: { unix: allowEveryone, tcp: allowEveryone, refusal: '' }, bodies: BODIES })
  app = made.app
  server = await openDoor({ kind: 'tcp', host: '127.0.0.1', port: 0 }, made.handler, LIMITS)
})
afterAll(async () => {
  await closeDoor(server, 100)
  await app.close()
})

describe('an HTTP application', () => {
  it.each([
    ['get', '/gone', 404, 'image_not_found'],
    ['get', '/broken', 500, 'internal'],
    ['get', '/nowhere', 404, 'not_found'],
    ['delete', '/gone', 404, 'not_found'],
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
})
