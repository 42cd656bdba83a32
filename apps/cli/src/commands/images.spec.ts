import { expect, it } from 'vitest'
import { sendJson, ServiceDouble } from '../testing/service-double.js'
import { strata } from '../testing/strata.js'

const id = (digit: string): string => `sha256:${digit.repeat(64)}`
const images = [
  {
    id: id('a'),
    digest: id('b'),
    names: ['fx/odd:3', 'localhost:5000/x:1'],
    size: 12_345_678,
    created: '2000-01-01T00:00:00Z',
    layers: 3,
  },
  { id: id('c'), digest: id('d'), names: [], size: 0, layers: 0 },
]

it('lists as docker does, or ids, or JSON', async () => {
  await using service = await ServiceDouble.start()
  service.json('GET /v1/images', 200, { images })
  const lines = (await strata(service, ['images'])).stdout.split('\n')
  expect(lines[0]).toBe('REPOSITORY         TAG      IMAGE ID       CREATED        SIZE')
  expect(lines[1]).toMatch(/^fx\/odd {13}3 {8}aaaaaaaaaaaa {3}\d\d years ago {3}12.3MB$/)
  expect(lines[2]).toMatch(/^localhost:5000\/x {3}1 /)
  expect(lines[3]).toMatch(/^<none> {13}<none> {3}cccccccccccc {3}N\/A {12}0B$/)
  expect((await strata(service, ['images', '-q'])).stdout).toBe('aaaaaaaaaaaa\ncccccccccccc\n')
  const json = (await strata(service, ['images', '--format', 'json'])).stdout.trimEnd().split('\n')
  expect(json).toHaveLength(3)
  expect(JSON.parse(json[0] ?? '')).toEqual({
    Repository: 'fx/odd',
    Tag: '3',
    Digest: id('b'),
    ID: 'aaaaaaaaaaaa',
    CreatedSince: expect.stringMatching(/ years ago$/) as string,
    CreatedAt: '2000-01-01 00:00:00 +0000 UTC',
    Size: '12.3MB',
  })
})

it('lists all pages, sorted as one', async () => {
  await using service = await ServiceDouble.start()
  const [first, second] = [
    { ...images[0], id: id('1'), names: ['old:1'] },
    { ...images[0], id: id('2'), names: ['new:1'], created: '2020-01-01T00:00:00Z' },
  ]
  service.on('GET /v1/images', ({ url }, response) => {
    const isFirst = !url.includes('after=')
    sendJson(response, 200, isFirst ? { images: [images[1], first], next: id('d') } : { images: [second] })
  })
  expect((await strata(service, ['images', '-q'])).stdout).toBe('222222222222\n111111111111\ncccccccccccc\n')
  expect(service.seen.map(({ url }) => url)).toEqual([
    '/v1/images?limit=1000',
    `/v1/images?limit=1000&after=${encodeURIComponent(id('d'))}`,
  ])
})

it('escapes names in paths, and goes on after one that fails', async () => {
  await using service = await ServiceDouble.start()
  service
    .json('DELETE /v1/images/fx%2Fodd%3A3', 200, { untagged: ['fx/odd:3'], deleted: [id('a')] })
    .problem('DELETE /v1/images/x', 404, 'image_not_found', 'no image x')
  const result = await strata(service, ['rmi', '-f', 'x', 'fx/odd:3'])
  expect(result).toMatchObject({
    code: 1,
    stdout: `Untagged: fx/odd:3\nDeleted: ${id('a')}\n`,
    stderr: 'strata: Error response: no image x\n',
  })
  expect(service.seen.map((seen) => seen.url)).toContain('/v1/images/x?force=true')
})

it('inspects containers first, then images, and names what is neither', async () => {
  await using service = await ServiceDouble.start()
  const image = { id: 'i', names: [], config: { labels: {}, volumes: [], exposedPorts: [] }, layers: [], history: [] }
  service.json('GET /v1/containers/c', 200, { id: 'c', command: [] }).json('GET /v1/images/i', 200, image)
  const result = await strata(service, ['inspect', 'i', 'c', 'gone'])
  expect(result.code).toBe(1)
  expect(JSON.parse(result.stdout)).toMatchObject([{ Id: 'i' }, { Id: 'c' }])
  expect(result.stderr).toBe('strata: no such object: gone\n')
})

it('mounts, tags, unmounts', async () => {
  await using service = await ServiceDouble.start()
  service
    .json('POST /v1/images/i/mount', 200, { id: id('a'), path: '/data/root' })
    .json('DELETE /v1/images/i/mount', 204)
    .json('POST /v1/images/i/tag', 201, {})
  expect((await strata(service, ['mount', 'i'])).stdout).toBe('/data/root\n')
  expect((await strata(service, ['umount', 'i'])).stdout).toBe('i\n')
  expect(await strata(service, ['tag', 'i', 'other:1'])).toMatchObject({ code: 0, stdout: '' })
  expect(service.seen.at(-1)?.body.toString()).toBe('{"name":"other:1"}')
})
