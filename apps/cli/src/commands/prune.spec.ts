import { expect, it } from 'vitest'
import { ServiceDouble } from '../testing/service-double.js'
import { strata } from '../testing/strata.js'

const id = (digit: string): string => digit.repeat(64)
const none = { count: 0, bytes: 0 }
const usage = { total: 0, active: 0, bytes: 0, reclaimable: 0 }
const result = {
  dryRun: false,
  images: [`sha256:${id('a')}`],
  store: {
    blobs: { count: 3, bytes: 2_000_000 },
    data: none,
    indexes: { count: 1, bytes: 4_000 },
    records: none,
    partialUploads: none,
    bytes: 2_004_000,
    linked: 0,
    tombstones: none,
  },
  nodes: [{ node: 'n1', done: true, roots: { count: 1, bytes: 8_000 }, layers: none, bytes: 8_000 }],
  bytes: 2_012_000,
}
const df = {
  images: { total: 5, active: 2, bytes: 16_430_000, reclaimable: 11_630_000 },
  containers: { total: 2, active: 0, bytes: 212, reclaimable: 212 },
  layers: usage,
  nodes: [
    {
      node: 'n1',
      answers: true,
      containers: [
        { id: id('1'), bytes: 500_000 },
        { id: id('2'), bytes: 7 },
      ],
      layers: usage,
    },
  ],
}

async function service(): Promise<ServiceDouble> {
  return (await ServiceDouble.start())
    .json('POST /v1/containers/prune', 200, { containers: [{ id: id('1'), bytes: 500_000 }], absent: [] })
    .json('GET /v1/system/df', 200, df)
    .json('POST /v1/gc', 200, result)
}
const bodyOf = async (double: ServiceDouble): Promise<unknown> =>
  JSON.parse((await double.asked('POST', '/v1/gc')).body.toString())

it('says what cannot be read and keeps bytes in the store, and ends with 1', async () => {
  const first = [{ name: 'a:1', reason: 'a:1 cannot be read: remove it' }]
  await using double = (await service()).json('POST /v1/gc', 200, { ...result, unreadable: { count: 3, first } })
  const { code, stdout, stderr } = await strata(double, ['system', 'prune', '-f'])
  expect({ code, stderr }).toEqual({
    code: 1,
    stderr:
      'strata: a:1 cannot be read: remove it\nstrata: 2 more cannot be read: see the log of the storage service\n',
  })
  expect(stdout).toContain('Total reclaimed space: 2.51MB')
})

it('says what the store does not delete now, and ends with 1', async () => {
  const undeleted = { count: 2, bytes: 3_000 }
  await using double = (await service()).json('POST /v1/gc', 200, { ...result, store: { ...result.store, undeleted } })
  const { code, stderr } = await strata(double, ['system', 'prune', '-f'])
  expect([code, stderr]).toEqual([
    1,
    'strata: the store does not delete 2 objects (3kB) now, while clients read them: prune again\n',
  ])
})

it('removes stopped containers, then all that nothing needs, and says what and how much', async () => {
  await using double = await service()
  const { code, stdout, stderr } = await strata(double, ['system', 'prune', '-f'])
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  expect(stdout).toBe(
    `Deleted Containers:\n${id('1')}\n\nDeleted Images:\nsha256:${id('a')}\n\nDeleted Data:\nstore: 3 blobs (2MB), 1 indexes (4kB)\nnode n1: 1 roots (8kB)\n\nTotal reclaimed space: 2.51MB\n`,
  )
  expect(await bodyOf(double)).toEqual({ untagged: true })
  // Which containers have ended is not decided here, from a list that may be old.
  expect(double.seen.map(({ method, url }) => `${method} ${url}`)).toEqual(['POST /v1/containers/prune', 'POST /v1/gc'])
})

it('removes nothing in a dry run, which takes the stopped containers for removed', async () => {
  await using double = await service()
  expect((await strata(double, ['system', 'prune', '--dry-run'])).stdout).toContain('Total reclaimable space: 2.51MB\n')
  expect(await bodyOf(double)).toEqual({ dryRun: true, untagged: true, absentContainers: [id('1')] })
  expect(JSON.parse((await double.asked('POST', '/v1/containers/prune')).body.toString())).toEqual({ dryRun: true })
})

it.each([
  ['n\n', 1],
  ['', 1],
  ['yes\n', 1],
  ['y\n', 0],
  ['Y\n', 0],
])('asks, and %j ends with %i', async (text, code) => {
  await using double = await service()
  const outcome = await strata(double, ['system', 'prune'], { input: text })
  expect(outcome).toMatchObject({ code, stderr: code === 0 ? '' : 'strata: nothing was removed\n' })
  expect(outcome.stdout).toContain('Are you sure you want to continue? [y/N] ')
  expect(double.seen.length > 0).toBe(code === 0)
})

it('says what could not be done, does the rest, and ends with 1', async () => {
  await using double = await service()
  double.json('POST /v1/containers/prune', 200, {
    containers: [],
    absent: [
      { node: 'n2', reason: 'the node n2 does not answer' },
      { node: 'n3', reason: 'the node n3 has another secret' },
    ],
  })
  double.json('POST /v1/gc', 200, {
    ...result,
    nodes: [{ node: 'n2', done: false, reason: 'the node n2 does not answer' }],
  })
  const { code, stdout, stderr } = await strata(double, ['system', 'prune', '-f'])
  expect({ code, stderr }).toEqual({
    code: 1,
    stderr: 'strata: the node n3 has another secret\nstrata: the node n2 does not answer\n',
  })
  expect(stdout).not.toContain('Deleted Containers')
})

it('shows what takes space as docker does', async () => {
  await using double = await service()
  expect((await strata(double, ['system', 'df'])).stdout).toBe(
    'TYPE              TOTAL   ACTIVE   SIZE     RECLAIMABLE\nImages            5       2        16.4MB   11.6MB (70%)\nContainers        2       0        212B     212B (100%)\nLayers on nodes   0       0        0B       0B\n',
  )
  const json = (await strata(double, ['system', 'df', '--format', 'json'])).stdout.split('\n')
  expect(JSON.parse(json[0] ?? '')).toEqual({
    Type: 'Images',
    TotalCount: '5',
    Active: '2',
    Size: '16.4MB',
    Reclaimable: '11.6MB (70%)',
  })
})
