import { expect, it } from 'vitest'
import { ServiceDouble } from '../testing/service-double.js'
import { strata } from '../testing/strata.js'

const digest = (digit: string): string => `sha256:${digit.repeat(64)}`
const MANIFEST = 'application/vnd.oci.image.manifest.v1+json'
const INDEX = 'application/vnd.oci.image.index.v1+json'

function serve(service: ServiceDouble, name: string, digit: string, mediaType: string, bytes: string): void {
  service.on(`GET /v1/manifests/${encodeURIComponent(name)}`, (_seen, response) => {
    response.writeHead(200, { 'content-type': mediaType, 'docker-content-digest': digest(digit) }).end(bytes)
  })
}

it('writes the bytes that were pushed, and nothing else', async () => {
  await using service = await ServiceDouble.start()
  const bytes = '{ "schemaVersion":2,\t"of": "\u009b" }'
  serve(service, 'team/app:1', '1', MANIFEST, bytes)
  expect(await strata(service, ['manifest', 'inspect', 'team/app:1'])).toMatchObject({
    code: 0,
    stdout: bytes,
    stderr: '',
  })
})

it('-v shows the descriptor beside it, of an index each manifest that is here, as docker does', async () => {
  await using service = await ServiceDouble.start()
  const child = '{"schemaVersion":2}'
  const described = (digit: string, architecture: string) => ({
    mediaType: MANIFEST,
    digest: digest(digit),
    size: 19,
    platform: { architecture, os: 'linux' },
  })
  const index = JSON.stringify({ schemaVersion: 2, manifests: [described('2', 'amd64'), described('3', 'arm64')] })
  serve(service, 'app', '1', INDEX, index)
  serve(service, `app@${digest('2')}`, '2', MANIFEST, child)
  service.problem(`GET /v1/manifests/${encodeURIComponent(`app@${digest('3')}`)}`, 404, 'manifest_not_found', 'no')
  const document = { Raw: Buffer.from(child).toString('base64'), OCIManifest: { schemaVersion: 2 } }
  const { stdout, stderr, code } = await strata(service, ['manifest', 'inspect', '-v', 'app'])
  expect(JSON.parse(stdout)).toEqual([{ Ref: `app@${digest('2')}`, Descriptor: described('2', 'amd64'), ...document }])
  expect([code, stderr]).toEqual([0, `strata: app@${digest('3')} is not here\n`])
  const one = await strata(service, ['manifest', 'inspect', '--verbose', `app@${digest('2')}`])
  expect(JSON.parse(one.stdout)).toEqual({
    Ref: `app@${digest('2')}`,
    Descriptor: { mediaType: MANIFEST, digest: digest('2'), size: child.length },
    ...document,
  })
})

it('-v prints each manifest of an index as it comes, and takes no index of any length', async () => {
  await using service = await ServiceDouble.start()
  const child = JSON.stringify({ schemaVersion: 2, annotations: { a: 'b' } })
  const manifests = ['2', '3'].map((digit) => ({ mediaType: MANIFEST, digest: digest(digit), size: child.length }))
  serve(service, 'app', '1', INDEX, JSON.stringify({ schemaVersion: 2, manifests }))
  serve(service, `app@${digest('2')}`, '2', MANIFEST, child)
  service.problem(`GET /v1/manifests/${encodeURIComponent(`app@${digest('3')}`)}`, 500, 'internal', 'no')
  const broken = await strata(service, ['manifest', 'inspect', '-v', 'app'])
  expect(broken).toMatchObject({ code: 1, stdout: expect.stringContaining(`app@${digest('2')}`) as string })
  serve(service, `app@${digest('3')}`, '3', MANIFEST, child)
  const { stdout } = await strata(service, ['manifest', 'inspect', '-v', 'app'])
  expect(stdout).toBe(`${JSON.stringify(JSON.parse(stdout), null, 4)}\n`)
  expect(JSON.parse(stdout)).toHaveLength(2)
  const many = Array.from({ length: 10_001 }, () => ({ digest: digest('2') }))
  serve(service, 'app', '1', INDEX, JSON.stringify({ schemaVersion: 2, manifests: many }))
  expect(await strata(service, ['manifest', 'inspect', '-v', 'app'])).toMatchObject({
    code: 1,
    stdout: '',
    stderr: 'strata: app names 10001 manifests; the limit is 10000\n',
  })
})

it('shows what a service warns of, each once, with nothing that a terminal obeys', async () => {
  await using service = await ServiceDouble.start()
  service.on('GET /v1/manifests/app', (_seen, response) => {
    const warnings = [
      '299 - "app:latest is deprecated"',
      '110 - "stale"',
      `299 - "${Buffer.from('say \\"n\u00f6\\", \u009b31m').toString('latin1')}"`,
    ]
    const index = { schemaVersion: 2, manifests: [{ digest: digest('1') }, { digest: digest('1') }] }
    response.setHeader('warning', warnings).setHeader('content-type', INDEX)
    // With a text as its body, Node would encode the headers too.
    response.end(Buffer.from(JSON.stringify(index)))
  })
  service.on(`GET /v1/manifests/${encodeURIComponent(`app@${digest('1')}`)}`, (_seen, response) =>
    response.writeHead(200, { 'content-type': MANIFEST, warning: '299 - "app:latest is deprecated"' }).end('{}'),
  )
  const { code, stderr } = await strata(service, ['manifest', 'inspect', '-v', 'app'])
  expect([code, stderr]).toEqual([0, 'Warning: app:latest is deprecated\nWarning: say "n\u00f6", \\u009b31m\n'])
})

it('knows no other command of that name', async () => {
  expect(await strata(undefined, ['manifest', 'push', 'a'])).toMatchObject({
    code: 125,
    stderr: "strata: 'manifest push' is not a strata command. See 'strata manifest --help'\n",
  })
})
