import { execFileSync } from 'node:child_process'
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { gzipSync } from 'node:zlib'
import type { JobList } from '@strata/api'
import { digestOf, HOST_PLATFORM, MEDIA } from '@strata/oci'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { busyboxLayer } from './testing/busybox-image.js'
import { DebianRegistry, whyNoDebianRegistry, type Part } from './testing/debian-registry.js'
import { StrataUnderTest } from './testing/strata.js'

/** What a user types, against Debian's registry, which lets one user in. */
let strata: StrataUnderTest
let folder: string
let registry: DebianRegistry
let image: Part
beforeAll(async () => {
  const why = whyNoDebianRegistry()
  if (why !== undefined) throw new Error(why)
  folder = await mkdtemp('/var/tmp/strata-pull-cli-')
  await mkdir(join(folder, 'docker'))
  strata = await StrataUnderTest.start({ environment: { STRATA_PREPARE: 'false' } })
  registry = await DebianRegistry.start(join(folder, 'registry'), 'me:the password')
  const tar = await busyboxLayer()
  const layer = await registry.fill.blob('team/app', gzipSync(tar), MEDIA.layerGzip)
  const config = {
    ...HOST_PLATFORM,
    config: { Env: ['PATH=/bin'] },
    rootfs: { type: 'layers', diff_ids: [digestOf(tar)] },
  }
  const manifest = {
    schemaVersion: 2,
    mediaType: MEDIA.manifest,
    config: await registry.fill.blob('team/app', Buffer.from(JSON.stringify(config)), MEDIA.config),
    layers: [layer],
  }
  image = await registry.fill.manifest('team/app', manifest, 'latest')
})
afterAll(async () => {
  await registry.stop()
  await strata.dispose()
  await rm(folder, { recursive: true, force: true })
})

const environment = (): NodeJS.ProcessEnv => ({ DOCKER_CONFIG: join(folder, 'docker') })
const cli = async (args: readonly string[], input?: string) => {
  const options = { environment: environment(), ...(input !== undefined && { input: Readable.from([input]) }) }
  const { code, stdout, stderr } = await strata.cli(args, options)
  return { code, stdout: stdout.toString(), stderr }
}
const login = (password: string) => cli(['login', '-u', 'me', '--password-stdin', registry.host], password)
const name = (): string => `${registry.host}/team/app`
const config = async (): Promise<unknown> => JSON.parse(await readFile(join(folder, 'docker/config.json'), 'utf8'))

it('a pull without a login is refused, and so is a launch', async () => {
  const refused = await cli(['pull', '-q', name()])
  expect(refused).toMatchObject({ code: 1, stdout: '' })
  expect(refused.stderr).toMatch(/^strata: Error response: .+\n$/)
  const launched = await cli(['run', '--rm', name(), 'true'])
  expect(launched).toMatchObject({ code: 125, stdout: '' })
  expect(launched.stderr).toContain(`Unable to find image '${name()}:latest' locally\n`)
})

it('a launch pulls what is missing, with the login of both tools, and the next one does not', async () => {
  expect(await login('wrong')).toMatchObject({ code: 1, stdout: '' })
  expect(await login('the password\n')).toMatchObject({ code: 0, stdout: 'Login Succeeded\n' })
  const ran = await cli(['run', '--rm', name(), 'echo', 'hello'])
  expect(ran).toMatchObject({ code: 0, stdout: 'hello\n' })
  expect(ran.stderr).toContain(`Unable to find image '${name()}:latest' locally\nlatest: Pulling from team/app\n`)
  expect(ran.stderr).toContain(`Digest: ${image.digest}\nStatus: Downloaded newer image for ${name()}:latest\n`)
  expect(await cli(['run', '--rm', name(), 'echo', 'again'])).toEqual({ code: 0, stdout: 'again\n', stderr: '' })
  const always = await cli(['run', '--rm', '--pull', 'always', name(), 'true'])
  expect(always.code).toBe(0)
  expect(always.stderr).toContain(`Status: Image is up to date for ${name()}:latest\n`)
})

it('a pull says what it did, and nothing of the password', async () => {
  expect(await cli(['pull', name()])).toMatchObject({
    code: 0,
    stdout: `Using default tag: latest\nDigest: ${image.digest}\nStatus: Image is up to date for ${name()}:latest\n${name()}:latest\n`,
  })
  expect(await cli(['pull', '-q', `${name()}@${image.digest}`])).toEqual({
    code: 0,
    stdout: `${name()}@${image.digest}\n`,
    stderr: '',
  })
  const { jobs } = (await strata.request('GET', '/v1/jobs')).json<JobList>()
  expect(jobs.filter(({ kind }) => kind === 'pull').length).toBeGreaterThan(3)
  expect(JSON.stringify(jobs)).not.toContain('the password')
})

it('docker forgets the login that strata has stored', async () => {
  expect(await config()).toMatchObject({ auths: { [registry.host]: { auth: expect.any(String) as string } } })
  execFileSync('docker', ['logout', registry.host], { env: { ...process.env, ...environment() } })
  expect(await config()).toEqual({ auths: {} })
  expect((await cli(['run', '--rm', '--pull', 'always', name(), 'true'])).code).toBe(125)
})
