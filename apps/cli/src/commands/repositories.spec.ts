import { once } from 'node:events'
import { expect, it } from 'vitest'
import { sendJson, ServiceDouble } from '../testing/service-double.js'
import { start, strata } from '../testing/strata.js'

const digest = (digit: string): string => `sha256:${digit.repeat(64)}`
const MANIFEST = 'application/vnd.oci.image.manifest.v1+json'

it('lists repositories, as a table, names, JSON or by a template', async () => {
  await using service = await ServiceDouble.start()
  service.json('GET /v1/repositories', 200, { repositories: [{ name: 'app' }, { name: 'ghcr.io/org/app' }] })
  expect(await strata(service, ['repos'])).toMatchObject({ code: 0, stdout: 'REPOSITORY\napp\nghcr.io/org/app\n' })
  expect((await strata(service, ['repos', '-q'])).stdout).toBe('app\nghcr.io/org/app\n')
  expect((await strata(service, ['repos', '--format', 'json'])).stdout).toBe(
    '{"name":"app"}\n{"name":"ghcr.io/org/app"}\n',
  )
  expect((await strata(service, ['repos', '--format', '{{.Repository}}!'])).stdout).toBe('app!\nghcr.io/org/app!\n')
  service.json('GET /v1/repositories', 200, { repositories: [] })
  expect((await strata(service, ['repos'])).stdout).toBe('REPOSITORY\n')
})

it('prints tags while they come, and asks for no more than is read', async () => {
  await using service = await ServiceDouble.start()
  const asked: (string | null)[] = []
  const release = Promise.withResolvers<undefined>()
  service.on('GET /v1/repositories/team%2Fapp/tags', ({ url }, response) => {
    const after = new URL(url, 'http://x').searchParams.get('after')
    asked.push(after)
    const page = { repository: 'team/app', tags: [{ name: after === null ? '1' : `${after}0` }] }
    const send = () => sendJson(response, 200, { ...page, next: page.tags[0]!.name })
    void (after === null ? send() : release.promise.then(send))
  })
  const child = start(service, ['tags', 'team/app'])
  const [first] = (await once(child.stdout, 'data')) as [Buffer]
  expect(first.toString()).toBe('REPOSITORY   TAG\nteam/app     1\n')
  // The reader has enough, as `| head -2`.
  child.stdout.destroy()
  release.resolve(undefined)
  const [code] = (await once(child, 'close')) as [number]
  // The list has no end: the command would not end either.
  expect(code).toBe(0)
  expect(asked.length).toBeLessThanOrEqual(2)
  expect((await service.asked('GET', '/v1/repositories')).url).toBe('/v1/repositories/team%2Fapp/tags?limit=1000')
})

it('lists tags by name, and says that a repository is not there', async () => {
  await using service = await ServiceDouble.start()
  service
    .json('GET /v1/repositories/app/tags', 200, { repository: 'app', tags: [{ name: '1' }, { name: 'b' }] })
    .problem('GET /v1/repositories/none/tags', 404, 'repository_not_found', 'there is no repository none')
  expect((await strata(service, ['tags', '-q', 'app'])).stdout).toBe('1\nb\n')
  expect((await strata(service, ['tags', 'app', '--format', 'json'])).stdout).toBe(
    '{"repository":"app","name":"1"}\n{"repository":"app","name":"b"}\n',
  )
  expect(await strata(service, ['tags', 'none'])).toMatchObject({
    code: 1,
    stdout: '',
    stderr: 'strata: Error response: there is no repository none\n',
  })
})

it('lists the referrers of one manifest, page after page, also if its tag is moved meanwhile', async () => {
  await using service = await ServiceDouble.start()
  const referrer = (digit: string, artifactType: string) => ({
    digest: digest(digit),
    mediaType: MANIFEST,
    size: 1_234,
    artifactType,
    annotations: { a: '1', b: '2' },
  })
  const pages = { subject: digest('5'), next: digest('1'), referrers: [referrer('1', 'a/sbom')] }
  service
    .json('GET /v1/manifests/team%2Fapp%3A1/referrers', 200, pages)
    .json(`GET /v1/manifests/team%2Fapp%3A1%40sha256%3A${'5'.repeat(64)}/referrers`, 200, {
      subject: digest('5'),
      referrers: [referrer('2', 'a/signature')],
    })
  expect((await strata(service, ['referrers', 'team/app:1'])).stdout.split('\n')).toEqual([
    `DIGEST${' '.repeat(68)}SIZE     ARTIFACT TYPE`,
    `${digest('1')}   1.23kB   a/sbom`,
    `${digest('2')}   1.23kB   a/signature`,
    '',
  ])
  const args = ['referrers', '--artifact-type', 'a/sbom', '--format', '{{.Annotations}} {{.MediaType}}', 'team/app:1']
  expect((await strata(service, args)).stdout).toBe(`a=1,b=2 ${MANIFEST}\n`.repeat(2))
  expect(service.seen.slice(-2).map(({ url }) => new URL(url, 'http://x').searchParams.toString())).toEqual([
    'limit=1000&artifactType=a%2Fsbom',
    `limit=1000&after=sha256%3A${'1'.repeat(64)}&artifactType=a%2Fsbom`,
  ])
})
