import { readFileSync, statSync } from 'node:fs'
import type { ContainerView } from '@strata/api'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadBusybox } from './testing/busybox-image.js'
import { freePort } from '@strata/store/testing'
import { StrataUnderTest, type Topology } from './testing/strata.js'
import { SERVICES, testTopology } from './testing/topology.js'

let strata: StrataUnderTest
let url: string
let listen: string
/** Of all services of one process. */
let health: string
beforeAll(async () => {
  listen = `127.0.0.1:${await freePort()}`
  url = `http://${listen}`
  health = `127.0.0.1:${await freePort()}`
  strata = await StrataUnderTest.start({
    environment: {
      STRATA_LISTEN: listen,
      STRATA_LOG_LEVEL: 'info',
      ...(testTopology() === 'standalone' ? { STRATA_HEALTH: health } : {}),
    },
  })
})
afterAll(async () => {
  await strata.dispose()
})

describe('the doors', () => {
  it('the socket is for its owner and group', () => {
    expect((statSync(strata.socket).mode & 0o777).toString(8)).toBe('660')
  })

  it('TCP needs the token, which only root can read', async () => {
    const file = strata.tokenFile
    expect((statSync(file).mode & 0o777).toString(8)).toBe('600')
    const token = readFileSync(file, 'utf8').trim()
    const status = async (authorization?: string): Promise<number> =>
      (await fetch(`${url}/v1/info`, { headers: authorization === undefined ? {} : { authorization } })).status
    expect(await status()).toBe(401)
    for (const wrong of [`Bearer ${token}x`, `Bearer ${'0'.repeat(64)}`, 'Bearer ', `Basic ${token}`, token])
      expect(await status(wrong), wrong).toBe(401)
    expect(await status(`Bearer ${token}`)).toBe(200)
    const refusal = await fetch(`${url}/v1/images`)
    expect(refusal.headers.get('content-type')).toMatch(/^application\/problem\+json/)
    expect(await refusal.json()).toMatchObject({ status: 401, code: 'unauthorized' })
  })

  it('the description is open, OpenAPI 3.1, and tells every route', async () => {
    expect((await fetch(`${url}/docs`)).status).toBe(200)
    for (const file of ['openapi.json', 'swagger-ui-bundle.js']) {
      const { headers } = await fetch(`${url}/docs/${file}`, { method: 'HEAD' })
      expect(Number(headers.get('content-length'))).toBeGreaterThan(10_000)
      const etag = headers.get('etag')!
      // Only with a Cache-Control of its own does `fetch` leave out the one that asks for
      // everything anew.
      expect(
        (await fetch(`${url}/docs/${file}`, { headers: { 'if-none-match': etag, 'cache-control': 'max-age=0' } }))
          .status,
      ).toBe(304)
    }
    const described = (await (await fetch(`${url}/docs/openapi.json`)).json()) as {
      openapi: string
      paths: Record<string, Record<string, { responses: object }>>
      components: { schemas: object }
    }
    expect(described.openapi).toMatch(/^3\.1\./)
    const routes = Object.entries(described.paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
    )
    expect(routes.sort()).toEqual([
      'DELETE /v1/containers/{id}',
      'DELETE /v1/images/{ref}',
      'DELETE /v1/images/{ref}/mount',
      'DELETE /v1/jobs/{id}',
      'DELETE /v1/nodes/{id}',
      'GET /v1/archive',
      'GET /v1/containers',
      'GET /v1/containers/{id}',
      'GET /v1/containers/{id}/logs',
      'GET /v1/health/live',
      'GET /v1/health/ready',
      'GET /v1/images',
      'GET /v1/images/{ref}',
      'GET /v1/images/{ref}/diff',
      'GET /v1/images/{ref}/export',
      'GET /v1/images/{ref}/file',
      'GET /v1/images/{ref}/files',
      'GET /v1/images/{ref}/history',
      'GET /v1/info',
      'GET /v1/jobs',
      'GET /v1/jobs/{id}',
      'GET /v1/jobs/{id}/events',
      'GET /v1/manifests/{ref}',
      'GET /v1/manifests/{ref}/referrers',
      'GET /v1/nodes',
      'GET /v1/repositories',
      'GET /v1/repositories/{name}/tags',
      'GET /v1/system/df',
      'GET /v1/version',
      'POST /v1/containers',
      'POST /v1/containers/prune',
      'POST /v1/containers/{id}/kill',
      'POST /v1/containers/{id}/start',
      'POST /v1/containers/{id}/stop',
      'POST /v1/containers/{id}/wait',
      'POST /v1/gc',
      'POST /v1/images',
      'POST /v1/images/{ref}/mount',
      'POST /v1/images/{ref}/tag',
      'PUT /v1/images',
    ])
    for (const name of ['Image', 'ImageList', 'Job', 'Container', 'CreateContainer', 'Problem', 'LoadResult'])
      expect(described.components.schemas).toHaveProperty(name)
    for (const [, reference] of JSON.stringify(described).matchAll(/"#\/components\/schemas\/(\w+)"/g))
      expect(described.components.schemas).toHaveProperty(reference!)
  })

  it.each([
    ['GET', '/nothing', 404],
    ['PATCH', '/v1/images', 404],
    ['POST', '/v1/version', 404],
  ])('%s %s is a problem', async (method, path, status) => {
    const answer = await strata.request(method, path)
    expect(answer.headers['content-type']).toMatch(/^application\/problem\+json/)
    expect(answer.json()).toMatchObject({ type: 'about:blank', status, code: 'not_found' })
  })
})

describe('the log', () => {
  it('has a line of JSON for a load, a launch, a removal and a refused token, with the ids of job and request', async () => {
    await loadBusybox(strata, 'log/box')
    const body = { image: 'log/box', name: 'logged', command: ['true'] }
    const { id: container } = (await strata.request('POST', '/v1/containers', body)).json<ContainerView>()
    await strata.request('POST', `/v1/containers/${container}/wait`)
    expect((await strata.request('DELETE', `/v1/containers/${container}`)).status).toBe(204)
    const { headers } = await strata.request('DELETE', '/v1/images/log%2Fbox')
    expect((await fetch(`${url}/v1/info`)).status).toBe(401)

    const lines = (): Record<string, unknown>[] =>
      strata.log
        .split('\n')
        .filter((line) => line.startsWith('{'))
        .map((line) => JSON.parse(line) as Record<string, unknown>)
    const told = (msg: RegExp) => lines().find((line) => typeof line['msg'] === 'string' && msg.test(line['msg']))
    const id = expect.stringMatching(/^[0-9a-f-]{36}$/) as string
    await expect
      .poll(() => [
        told(/^loaded log\/box:latest$/),
        told(/^launched logged$/),
        told(/^removed the container logged$/),
        told(/^removed the image log\/box$/),
        told(/^refused, unauthorized: GET \/v1\/info from 127\.0\.0\.1$/),
      ])
      .toMatchObject([
        { level: 'info', job: id, image: expect.stringMatching(/^sha256:/) as string },
        { level: 'info', job: id, container },
        { container },
        { request: headers['x-request-id'] },
        {},
      ])
    for (const line of lines())
      expect(line).toMatchObject({
        time: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/) as string,
        level: expect.stringMatching(/^(trace|debug|info|warn|error|fatal)$/) as string,
      })
    expect(strata.log).not.toMatch(/Mapped|RoutesResolver|InstanceLoader/)
  })
})

describe('the metrics', () => {
  const pages = async (): Promise<string[]> =>
    strata.topology === 'standalone'
      ? [await (await fetch(`http://${health}/metrics`)).text()]
      : Promise.all(SERVICES.map((service) => strata.metrics(service)))

  it('are those of docs/metrics.md, of every service', async () => {
    await loadBusybox(strata, 'metrics/box')
    const documented = [
      ...readFileSync(new URL('../../../docs/metrics.md', import.meta.url), 'utf8').matchAll(
        /^\| `(\w+)` \| (\w+) \|/gm,
      ),
    ].map(([, name, type]) => `${name!} ${type!}`)
    const given = await pages()
    for (const text of given)
      expect([...text.matchAll(/^# TYPE (.*)$/gm)].map(([, family]) => family).sort()).toEqual(documented.sort())
    const all = given.join('\n')
    for (const service of SERVICES) {
      expect(all).toContain(`strata_up{service="${service}"} 1\n`)
      expect(all).toContain(`strata_store_calls_total{service="${service}",`)
    }
    expect(all).toMatch(/^strata_jobs_ended_total\{service="ingest",job="load",outcome="completed"\} [1-9]/m)
    expect(all).toMatch(/^strata_queue_jobs\{service="extractor",queue="extract.node",state="active"\} 0$/m)
    expect(all).toMatch(
      /^strata_http_requests_total\{service="gateway",method="POST",route="\/v1\/images",status="2xx"\} [1-9]/m,
    )
    expect(all).toMatch(/^strata_cache_requests_total\{service="extractor",cache="layers",result="miss"\} [1-9]/m)
    expect(all).not.toContain('metrics/box')
  })

  it('are where the health is', async () => {
    const isReady = async (): Promise<boolean> =>
      strata.topology === 'standalone'
        ? (await fetch(`http://${health}/health/ready`)).status === 200
        : (await strata.health('ingest', 'ready')).status === 200
    expect(await isReady()).toBe(true)
  })

  it('of the public door need the token', async () => {
    expect((await fetch(`${url}/metrics`)).status).toBe(401)
    const authorization = `Bearer ${readFileSync(strata.tokenFile, 'utf8').trim()}`
    const answer = await fetch(`${url}/metrics`, { headers: { authorization } })
    expect([answer.status, (await answer.text()).includes('strata_up{service="gateway"} 1\n')]).toEqual([200, true])
    expect((await strata.request('GET', '/metrics')).status).toBe(200)
  })
})

describe('what is taken is said in one sentence', () => {
  const refusedStart = async (environment: Record<string, string>, topology?: Topology): Promise<string> => {
    const error = await StrataUnderTest.start({ environment, ...(topology ? { topology } : {}) }).then(
      () => new Error('it started'),
      (thrown: unknown) => thrown as Error,
    )
    // Other services of the group may be logging meanwhile; what is said besides is one sentence.
    return error.message
      .split('\n')
      .filter((line) => !line.startsWith('{'))
      .join('\n')
  }

  it('a port', async () => {
    expect(await refusedStart({ STRATA_LISTEN: listen })).toMatch(/strata: .* is taken: [^\n]+\n?$/)
  })
  it('a socket', async () => {
    expect(await refusedStart({ STRATA_SOCKET: strata.socket })).toMatch(
      /strata: Strata is already running on [^\n]+\n?$/,
    )
  })
  it('a data folder', async () => {
    const first = await StrataUnderTest.start({ topology: 'standalone' })
    expect(await refusedStart({ STRATA_DATA: first.data }, 'standalone')).toMatch(
      /strata: Strata is already running on [^\n]+\n?$/,
    )
    await first.dispose()
  })
})
