import { expect, it } from 'vitest'
import { sendJson, ServiceDouble } from './testing/service-double.js'
import { strata } from './testing/strata.js'

const container = (digit: string, createdAt: string) => ({
  id: digit.repeat(64),
  name: `c${digit}`,
  image: 'box',
  command: [],
  state: 'running',
  createdAt,
  startedAt: createdAt,
})
const node = (id: string) => ({ id, host: 'h', state: 'ready', containers: 0 })
const job = (digit: string) => ({
  id: `${digit.repeat(8)}-0000-4000-8000-000000000000`,
  kind: 'load',
  state: 'completed',
  step: 'done',
  bytes: 0,
  entries: 0,
  createdAt: '2020-01-01T00:00:00Z',
})

it.each([
  {
    args: ['ps', '-a', '-q'],
    path: '/v1/containers',
    pages: [
      { containers: [container('1', '2020-01-01T00:00:00Z')], next: '1'.repeat(64) },
      { containers: [], next: '2'.repeat(64) },
      { containers: [container('3', '2021-01-01T00:00:00Z')] },
    ],
    // The newest first, whatever page it was on.
    shown: '333333333333\n111111111111\n',
  },
  {
    args: ['node', 'ls', '-q'],
    path: '/v1/nodes',
    pages: [{ nodes: [node('a')], next: 'a' }, { nodes: [node('b')] }],
    shown: 'a\nb\n',
  },
  {
    args: ['jobs', '-q'],
    path: '/v1/jobs',
    pages: [{ jobs: [job('2')], next: job('2').id }, { jobs: [job('1')] }],
    shown: `${job('2').id}\n${job('1').id}\n`,
  },
])('$args lists all pages', async ({ args, path, pages, shown }) => {
  await using service = await ServiceDouble.start()
  service.on(`GET ${path}`, ({ url }, response) => {
    const after = new URL(url, 'http://x').searchParams.get('after')
    const at = pages.findIndex(({ next }) => next === (after ?? 'none'))
    sendJson(response, 200, pages[at + 1])
  })
  expect(await strata(service, args)).toMatchObject({ code: 0, stdout: shown, stderr: '' })
  expect(service.seen).toHaveLength(pages.length)
  for (const { url } of service.seen) expect(url).toContain('limit=1000')
})

it('a service that gives one page for ever is an error', async () => {
  await using service = await ServiceDouble.start()
  service.json('GET /v1/nodes', 200, { nodes: [], next: 'a' })
  expect(await strata(service, ['node', 'ls'])).toMatchObject({
    code: 1,
    stderr: 'strata: the service gave the page behind a twice\n',
  })
})

it('and so is one whose pages go round in a circle', async () => {
  await using service = await ServiceDouble.start()
  let asked = 0
  service.on('GET /v1/nodes', (_seen, response) =>
    sendJson(response, 200, { nodes: [], next: ++asked < 5 ? `begin${asked}` : `n${asked % 3}` }),
  )
  const { code, stderr } = await strata(service, ['node', 'ls'])
  expect([code, stderr]).toEqual([1, expect.stringMatching(/^strata: the service gave the page behind n\d twice\n$/)])
  expect(asked).toBeLessThan(30)
})
