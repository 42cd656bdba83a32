import { createServer, request as ask, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Readable } from 'node:stream'
import { TestS3 } from '@strata/store/testing'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { loadBusybox } from '../testing/busybox-image.js'
import { StrataUnderTest } from '../testing/strata.js'

/**
 * Pages of name marks that were asked for; and other listings, each held until `letGo`: a request
 * that waits for one has no answer.
 */
const pages: URLSearchParams[] = []
const held: { readonly query: URLSearchParams; readonly go: () => void }[] = []
/** Whose asker has waited for it in vain. */
const givenUp: string[] = []
const letGo = (): void => held.splice(0).forEach(({ go }) => go())
let isHeld = false
let s3: TestS3
let proxy: Server
let strata: StrataUnderTest
beforeAll(async () => {
  s3 = await TestS3.startOwn('minio', '/var/tmp')
  proxy = await listeningBefore(s3.endpoint)
  const { port } = proxy.address() as AddressInfo
  // Storage works behind all requests and lists as it needs: it has a way of its own.
  strata = await StrataUnderTest.start({
    topology: 'processes',
    store: s3,
    groups: [['gateway', 'ingest', 'extractor', 'runtime']],
    environment: { STRATA_S3_ENDPOINT: `http://127.0.0.1:${port}` },
  })
  await strata.startGroup(['storage'], false, { environment: { STRATA_S3_ENDPOINT: s3.endpoint } })
  await strata.ready()
})
afterAll(async () => {
  await strata.dispose()
  proxy.close()
  await s3.remove()
})

async function listeningBefore(endpoint: string): Promise<Server> {
  const server = createServer((request, response) => {
    const query = new URL(request.url!, endpoint).searchParams
    const isListing = request.method === 'GET' && (query.has('list-type') || query.has('uploads'))
    if (!isListing || !isHeld) return pass(request, response)
    if (query.get('prefix')?.startsWith('image-names/')) {
      pages.push(query)
      pass(request, response)
    } else {
      const one = { query, go: () => pass(request, response) }
      held.push(one)
      response.once('close', () => held.includes(one) && givenUp.push(query.toString()))
    }
  })
  const pass = (request: IncomingMessage, response: ServerResponse): void => {
    const onward = ask(
      new URL(request.url!, endpoint),
      { method: request.method!, headers: request.headers },
      (answer) => {
        response.writeHead(answer.statusCode!, answer.headers)
        answer.pipe(response)
      },
    )
    onward.on('error', () => response.destroy())
    request.pipe(onward)
  }
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return server
}

it('no request waits for a list of anything but the names of one image, or of a page of them', async () => {
  isHeld = true
  const done = async (method: string, path: string, body?: object): Promise<void> => {
    const { status, bytes } = await strata.request(method, path, body)
    expect(status, `${method} ${path}: ${bytes.toString()}`).toBeLessThan(300)
    letGo()
  }
  for (const name of ['t/one', 't/two']) await loadBusybox(strata, name).then(letGo)
  await done('POST', '/v1/images/t%2Fone/tag', { name: 't/three' })
  for (const rest of [
    '',
    '/t%2Fone',
    ...['history', 'diff?other=t/two', 'files?path=/', 'file?path=/bin/busybox', 'export'].map(
      (part) => `/t%2Fone/${part}`,
    ),
  ])
    await done('GET', `/v1/images${rest}`)
  await done('GET', '/v1/archive?image=t%2Fone')
  expect((await strata.cli(['run', '--rm', '--network', 'none', 't/one', 'true'])).code).toBe(0)
  letGo()
  await done('POST', '/v1/images/t%2Fone/mount')
  await done('DELETE', '/v1/images/t%2Fone/mount')
  await done('GET', '/v1/jobs')
  await done('GET', '/v1/containers?all')
  await done('GET', '/v1/nodes')
  await done('GET', '/v1/info')
  await done('DELETE', '/v1/images/t%2Ftwo')
  await done('GET', '/v1/health/ready')
  const refused = await strata.request(
    'POST',
    '/v1/images',
    Readable.from([Buffer.alloc(20 * 1024 * 1024, 'no archive')]),
  )
  expect(refused.status, refused.bytes.toString()).toBe(400)
  letGo()

  // And what was not seen would have been held.
  const caught = fetch(`http://127.0.0.1:${(proxy.address() as AddressInfo).port}/strata?list-type=2&prefix=caught/`)
  await expect.poll(() => held.map(({ query }) => query.get('prefix'))).toContain('caught/')
  isHeld = false
  letGo()
  expect((await caught).status).toBe(403)
  expect(givenUp).toEqual([])
  expect(pages.length).toBeGreaterThan(0)
  expect(pages.filter((query) => Number(query.get('max-keys') ?? 1000) > 1000)).toEqual([])
})
