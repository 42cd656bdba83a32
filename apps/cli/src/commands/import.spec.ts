import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { ServiceDouble } from '../testing/service-double.js'
import { strata } from '../testing/strata.js'

const id = `sha256:${'a'.repeat(64)}`
const made = { images: [{ id, digest: id, names: ['one/two:3'], layers: 1 }] }

it('sends a pipe with all that was said of the image, and prints its id', async () => {
  await using service = await ServiceDouble.start()
  service.json('POST /v1/images', 201, made)
  const args = [
    'import',
    '-q',
    '-c',
    'CMD ["/bin/sh"]',
    '--change',
    'ENV a=b c="d&e"',
    '-m',
    'made by hand',
    '--platform',
    'linux/arm64/v8',
    '-',
    'one/two:3',
  ]
  expect(await strata(service, args, { input: 'a tar', environment: { SOURCE_DATE_EPOCH: '12' } })).toEqual({
    code: 0,
    signal: null,
    stdout: `${id}\n`,
    stderr: '',
  })
  const post = await service.asked('POST', '/v1/images')
  const { job, ...query } = Object.fromEntries(new URL(post.url, 'http://x').searchParams)
  expect(job).toMatch(/^[0-9a-f-]{36}$/)
  expect(query).toEqual({
    import: 'one/two:3',
    message: 'made by hand',
    platform: 'linux/arm64/v8',
    timestamp: '12',
    change: 'ENV a=b c="d&e"',
  })
  expect(new URL(post.url, 'http://x').searchParams.getAll('change')).toEqual(['CMD ["/bin/sh"]', 'ENV a=b c="d&e"'])
  expect(post.body.toString()).toBe('a tar')
})

it('names a file’s descriptor; --timestamp goes before SOURCE_DATE_EPOCH, and no name is an empty one', async () => {
  await using service = await ServiceDouble.start()
  service.json('POST /v1/images', 201, made)
  const file = join(service.folder, 'root.tar')
  await writeFile(file, 'a tar')
  expect(
    await strata(service, ['import', '-q', '--timestamp', '7', file], { environment: { SOURCE_DATE_EPOCH: '12' } }),
  ).toMatchObject({ code: 0, stdout: `${id}\n` })
  const post = await service.asked('POST', '/v1/images')
  expect(post.url).toMatch(/\?job=[0-9a-f-]{36}&import=&timestamp=7$/)
  expect(JSON.parse(post.body.toString())).toMatchObject({ fd: expect.any(Number) as number, size: '5' })
})

it('says what it does not take, before anything is sent', async () => {
  await using service = await ServiceDouble.start()
  expect(await strata(service, ['import', 'https://example.org/root.tar', 'x:1'])).toMatchObject({
    code: 1,
    stderr: 'strata: import fetches nothing: curl -fsSL https://example.org/root.tar | strata import - x:1\n',
  })
  expect(await strata(service, ['import', '--timestamp', 'now', '-'])).toMatchObject({
    code: 1,
    stderr: 'strata: the time "now" is not a number of seconds since 1970\n',
  })
  expect(await strata(service, ['import', '-'], { environment: { SOURCE_DATE_EPOCH: '-1' } })).toMatchObject({
    code: 1,
  })
  expect((await strata(service, ['import', service.folder])).stderr).toContain(
    `tar -C ${service.folder} -c . | strata import -`,
  )
  expect(await strata(service, ['import'])).toMatchObject({ code: 1 })
  expect(service.seen).toEqual([])
})
