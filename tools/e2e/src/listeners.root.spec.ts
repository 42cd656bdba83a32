import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { RawClient, requestText, sendAndReset } from '@strata/platform/testing'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadBusybox } from './testing/busybox-image.js'
import { freePort } from './testing/free-port.js'
import { StrataUnderTest } from './testing/strata.js'

let strata: StrataUnderTest
let gateway: { host: string; port: number }
let node: { host: string; port: number }
let container: string
beforeAll(async () => {
  gateway = { host: '127.0.0.1', port: await freePort() }
  node = { host: '127.0.0.1', port: await freePort() }
  strata = await StrataUnderTest.start({ environment: { STRATA_PREPARE: 'false', STRATA_LISTEN: `127.0.0.1:${gateway.port}`, STRATA_DOOR_LISTEN: `127.0.0.1:${node.port}` } })
  await loadBusybox(strata, 'listeners:1')
  container = (await strata.request('POST', '/v1/containers', LAUNCH)).json<{ id: string }>().id
})
afterAll(() => strata.dispose())

const LAUNCH = { image: 'listeners:1', command: ['sleep', '1000'] }
const IMAGE = `/v1/images/${encodeURIComponent('listeners:1')}`
const JSON_TYPE = 'content-type: application/json'
const token = (): string => `authorization: Bearer ${readFileSync(strata.tokenFile, 'utf8').trim()}`
const secret = (): string => `x-strata-secret: ${readFileSync(join(strata.data, 'node-secret'), 'utf8').trim()}`

/** All that a request without a token could have changed. */
async function state(): Promise<unknown> {
  const { jobs } = (await strata.request('GET', '/v1/jobs?limit=1000')).json<{ jobs: { id: string }[] }>()
  return { images: await strata.images(), containers: (await strata.containers()).map(({ id, state }) => ({ id, state })), jobs: jobs.map(({ id }) => id).sort() }
}

async function statusOf(to: typeof gateway, text: string): Promise<number> {
  const client = await RawClient.connect(to)
  await client.send(text)
  const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(await client.receive(/\r\n\r\n/))?.[1])
  client.socket.destroy()
  return status
}

describe('without the token', () => {
  it.each<[name: string, to: () => typeof gateway, text: () => string]>([
    ['a launch', () => gateway, () => requestText('POST /v1/containers', [JSON_TYPE], JSON.stringify(LAUNCH))],
    ['removal of a container', () => gateway, () => requestText(`DELETE /v1/containers/${container}?force=true`)],
    ['removal of an image', () => gateway, () => requestText(`DELETE ${IMAGE}?force=true`)],
    ['a mount', () => gateway, () => requestText(`POST ${IMAGE}/mount`)],
    ['a collection', () => gateway, () => requestText('POST /v1/gc', [JSON_TYPE], '{}')],
    ['a load', () => gateway, () => requestText('POST /v1/images', ['content-type: application/x-tar'], 'no tar')],
    ['removal of a container on its node', () => node, () => requestText(`DELETE /containers/${container}?force=true`)],
    ['a signal on the node', () => node, () => requestText(`POST /containers/${container}/kill`, [JSON_TYPE], '{}')],
  ])('%s is refused, and does not run for a client that resets its connection at once', async (_, to, text) => {
    const before = await state()
    expect(await statusOf(to(), text())).toBe(401)
    for (let attempt = 0; attempt < 50; attempt++) await sendAndReset(to(), text())
    // Accepted after all of those.
    expect(await statusOf(to(), text())).toBe(401)
    expect(await state()).toEqual(before)
  })

  it('a path that does not exist is refused in the same way', async () => {
    expect(await statusOf(gateway, requestText('GET /v1/nothing'))).toBe(401)
    expect(await statusOf(node, requestText('GET /nothing'))).toBe(401)
    expect(await statusOf(gateway, requestText('GET /v1/nothing', [token()]))).toBe(404)
    expect(await statusOf(node, requestText('GET /nothing', [secret()]))).toBe(404)
  })

  it('what is open stays open', async () => {
    for (const path of ['/docs', '/docs/openapi.json', '/docs/swagger-ui.css', '/v1/health/live', '/v1/health/ready']) expect(await statusOf(gateway, requestText(`GET ${path}`)), path).toBe(200)
  })
})
