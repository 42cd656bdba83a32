import { writeFile } from 'node:fs/promises'
import type { ServerResponse } from 'node:http'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { sendJson, sendProblem, ServiceDouble, type Seen } from '../testing/service-double.js'
import { outcome, start, strata } from '../testing/strata.js'

const digest = `sha256:${'a'.repeat(64)}`
const pulled = (changed = true) => ({
  images: [{ id: digest, digest, names: ['busybox:latest'], layers: 1 }],
  pulled: {
    name: 'busybox:latest',
    digest,
    mediaType: 'application/vnd.oci.image.index.v1+json',
    changed,
    blobs: { new: { count: 2, bytes: 7 }, known: { count: 0, bytes: 0 } },
  },
})

let service: ServiceDouble
let environment: NodeJS.ProcessEnv
beforeEach(async () => {
  service = await ServiceDouble.start()
  environment = { DOCKER_CONFIG: service.folder }
})
afterEach(() => service[Symbol.asyncDispose]())
const run = (...args: string[]) => strata(service, args, { environment })
const logins = (config: unknown): Promise<void> =>
  writeFile(join(service.folder, 'config.json'), JSON.stringify(config))
const query = ({ url }: Seen): object => Object.fromEntries(new URL(url, 'http://x').searchParams)
const authOf = (seen: Seen): unknown => {
  const header = seen.headers['x-registry-auth']
  return header === undefined ? undefined : JSON.parse(Buffer.from(String(header), 'base64url').toString())
}

describe('strata pull', () => {
  it('says what docker says, and shows each layer on stderr', async () => {
    const answer = Promise.withResolvers<ServerResponse>()
    service.on('POST /v1/images', (_seen, response) => answer.resolve(response))
    service.on('GET /v1/jobs/{job}/events', (_seen, events) => {
      void answer.promise.then((response) => {
        const layer = { digest, size: 10, bytes: 5, state: 'pulling' }
        events.writeHead(200, { 'content-type': 'text/event-stream' })
        const tell = (view: object): unknown => events.write(`event: progress\ndata: ${JSON.stringify(view)}\n\n`)
        tell({ state: 'active', step: 'pulling', bytes: 5, total: 10, layers: [layer] })
        tell({ state: 'active', step: 'the registry asks to wait 3 s', bytes: 5, total: 10, layers: [layer] })
        tell({ state: 'active', step: 'pulling', bytes: 10, total: 10, layers: [{ ...layer, state: 'pulled' }] })
        events.end('event: end\ndata: {"state":"completed"}\n\n')
        events.on('close', () => sendJson(response, 201, pulled()))
      })
    })
    const result = await run('pull', 'busybox')
    expect(result).toMatchObject({
      code: 0,
      stdout: `Using default tag: latest\nDigest: ${digest}\nStatus: Downloaded newer image for busybox:latest\ndocker.io/library/busybox:latest\n`,
    })
    expect(result.stderr.split('\n').filter((line) => !/^pulling \d/.test(line))).toEqual([
      'latest: Pulling from library/busybox',
      'aaaaaaaaaaaa: Downloading',
      'pulling',
      'the registry asks to wait 3 s',
      'aaaaaaaaaaaa: Download complete',
      'pulling',
      '',
    ])
    const post = await service.asked('POST', '/v1/images')
    expect(query(post)).toEqual({ pull: 'docker.io/library/busybox:latest', job: expect.any(String) as string })
    expect(post.headers['content-length']).toBe('0')
    expect(authOf(post)).toBeUndefined()
  })

  it.each([
    [['ghcr.io/a/b:1'], 'ghcr.io/a/b:1', 'ghcr.io/a/b:1', 'ghcr.io/a/b:1'],
    [[`a/b@${digest}`], `docker.io/a/b@${digest}`, `a/b@${digest}`, `docker.io/a/b@${digest}`],
  ])('%j is up to date', async (args, asked, short, full) => {
    service.json('POST /v1/images', 201, pulled(false))
    const result = await run('pull', ...args)
    expect(query(await service.asked('POST', '/v1/images'))).toMatchObject({ pull: asked })
    expect(result.stdout).toBe(`Digest: ${digest}\nStatus: Image is up to date for ${short}\n${full}\n`)
  })

  it('-q prints the name alone; options go to the service', async () => {
    service.json('POST /v1/images', 201, pulled())
    expect(await run('pull', '-q', '--platform', 'all', '--insecure', 'localhost:5000/x')).toEqual({
      code: 0,
      signal: null,
      stdout: 'localhost:5000/x:latest\n',
      stderr: '',
    })
    expect(query(await service.asked('POST', '/v1/images'))).toMatchObject({ platform: 'all', insecure: 'true' })
    expect(service.seen).toHaveLength(1)
  })

  it.each(['A', 'a b', 'https://a/b', `a@sha256:1`, '../x'])('refuses the name %j without asking', async (name) => {
    expect(await run('pull', name)).toMatchObject({ code: 1, stdout: '' })
    expect(service.seen).toEqual([])
  })

  it('says why the service cannot', async () => {
    service.problem('POST /v1/images', 404, 'manifest_not_found', 'ghcr.io has no a/b:1')
    const result = await run('pull', '-q', 'ghcr.io/a/b:1')
    expect(result).toMatchObject({ code: 1, stdout: '', stderr: 'strata: Error response: ghcr.io has no a/b:1\n' })
  })

  it('cancels the job on Ctrl-C and ends with 130', async () => {
    service.on('POST /v1/images', () => undefined).json('DELETE /v1/jobs/{job}', 202)
    const child = start(service, ['pull', '-q', 'x:1'], environment)
    const ended = outcome(child)
    const post = await service.asked('POST', '/v1/images')
    child.kill('SIGINT')
    expect(await ended).toMatchObject({ code: 130, stdout: '', stderr: 'strata: the pull was cancelled\n' })
    const cancelled = await service.asked('DELETE', '/v1/jobs/')
    expect(query(post)).toMatchObject({ job: cancelled.url.slice('/v1/jobs/'.length) })
  })
})

describe('the login of a pull', () => {
  beforeEach(() => void service.json('POST /v1/images', 201, pulled()))

  it('is that of the name’s registry, and of no other', async () => {
    await logins({
      auths: {
        'https://index.docker.io/v1/': { auth: 'aHViOjE=' },
        'ghcr.io': { auth: 'bWU6MjphOuQ=' },
        'http://localhost:5000/v2/': { identitytoken: 'T' },
      },
    })
    for (const name of ['x', 'ghcr.io/x', 'localhost:5000/x', 'ghcr.io.evil.example/x']) await run('pull', '-q', name)
    const [hub, ghcr, local, other] = service.seen.map(authOf)
    expect(hub).toEqual({ username: 'hub', password: '1', serveraddress: 'https://index.docker.io/v1/' })
    expect(ghcr).toMatchObject({ username: 'me', serveraddress: 'ghcr.io' })
    expect(local).toEqual({ identitytoken: 'T', serveraddress: 'localhost:5000' })
    expect(other).toBeUndefined()
  })

  it('comes from a credential helper', async () => {
    await logins({ credHelpers: { 'ghcr.io': 'test' } })
    const script = '#!/bin/sh\nread server; echo "{\\"Username\\":\\"u\\",\\"Secret\\":\\"for $server\\"}"\n'
    await writeFile(join(service.folder, 'docker-credential-test'), script, { mode: 0o755 })
    environment['PATH'] = `${service.folder}:${process.env['PATH'] ?? ''}`
    expect(await run('pull', '-q', 'ghcr.io/x')).toMatchObject({ code: 0 })
    expect(authOf(service.seen[0]!)).toMatchObject({ username: 'u', password: 'for ghcr.io' })
  })

  it('is an error where docker’s configuration cannot be used, and nothing is asked', async () => {
    await writeFile(join(service.folder, 'config.json'), '{"auths":')
    expect((await run('pull', 'x')).stderr).toContain('config.json cannot be used: it is not JSON')
    await logins({ auths: { 'docker.io': { auth: Buffer.from(`a:${'x'.repeat(20_000)}`).toString('base64') } } })
    const { code, stderr } = await run('pull', 'x')
    expect(code).toBe(1)
    expect(stderr).toContain('the login for docker.io has more than 16384 bytes')
    expect(service.seen).toEqual([])
  })

  it('of a helper with a name for a terminal is refused as text', async () => {
    await logins({ credsStore: '\x1b[2J' })
    const { code, stderr } = await run('pull', '-q', 'x')
    expect(code).toBe(1)
    expect(stderr).not.toContain('\x1b')
  })
})

describe('a launch with --pull', () => {
  const id = 'c0'.repeat(32)
  /** A service that has no image until one is pulled. */
  const absent = (): void => {
    let isThere = false
    service.on('POST /v1/containers', (seen, response) => {
      const { image } = JSON.parse(seen.body.toString()) as { image: string }
      if (isThere) sendJson(response, 201, { id })
      else sendProblem(response, 404, 'image_not_found', `there is no image "${image}"`)
    })
    service.on('POST /v1/images', (_seen, response) => {
      isThere = true
      sendJson(response, 201, pulled())
    })
    service.on('GET /v1/jobs/{job}/events', (_seen, response) => response.end())
  }
  const launched = (): string[] =>
    service.seen.map(({ url }) => url.split('?')[0]!).filter((url) => !url.includes('jobs'))

  it.each([
    ['run', ['run', '-d', 'busybox'], 'busybox'],
    ['create', ['create', 'busybox'], 'busybox'],
    ['a policy in words', ['run', '-d', '--pull', 'missing', 'busybox'], 'busybox'],
  ])('pulls a missing image and goes on: %s', async (_, args) => {
    absent()
    expect(await run(...args)).toMatchObject({
      code: 0,
      stdout: `${id}\n`,
      stderr: `Unable to find image 'busybox:latest' locally\nlatest: Pulling from library/busybox\nDigest: ${digest}\nStatus: Downloaded newer image for busybox:latest\n`,
    })
    expect(launched()).toEqual(['/v1/containers', '/v1/images', '/v1/containers'])
    const jobs = service.seen
      .filter(({ method }) => method === 'POST')
      .map((seen) => (query(seen) as { job: string }).job)
    expect(new Set(jobs).size).toBe(3)
  })

  it('-q does so in silence', async () => {
    absent()
    expect(await run('run', '-q', '-d', 'busybox')).toMatchObject({ code: 0, stdout: `${id}\n`, stderr: '' })
  })

  it('does not ask for what is here', async () => {
    service.json('POST /v1/containers', 201, { id })
    expect(await run('run', '-d', 'busybox')).toMatchObject({ code: 0, stdout: `${id}\n`, stderr: '' })
    expect(launched()).toEqual(['/v1/containers'])
  })

  it('always pulls first', async () => {
    absent()
    const { code, stderr } = await run('run', '-d', '--pull', 'always', 'busybox:1')
    expect(code).toBe(0)
    expect(stderr).toContain('Status: Downloaded newer image for busybox:1\n')
    expect(stderr).not.toContain('Unable to find')
    expect(launched()).toEqual(['/v1/images', '/v1/containers'])
  })

  it.each([
    ['never', ['--pull', 'never', 'busybox']],
    ['a full id', [digest]],
    ['the digits of an id', ['a'.repeat(64)]],
    ['the beginning of an id', ['sha256:abc']],
    ['an id as lists show it', ['0123456789ab']],
    ['an id, always', ['--pull', 'always', '0123456789ab']],
  ])('does not pull for %s, and ends with 125', async (_, args) => {
    absent()
    const { code, stdout, stderr } = await run('run', ...args)
    expect({ code, stdout }).toEqual({ code: 125, stdout: '' })
    expect(stderr).toMatch(/there is no image|is an id/)
    expect(launched()).not.toContain('/v1/images')
  })

  it('ends with 125 and the registry’s answer if the image cannot be had', async () => {
    absent()
    service.problem('POST /v1/images', 404, 'manifest_not_found', 'docker.io has no library/none:latest')
    expect(await run('run', 'none')).toMatchObject({
      code: 125,
      stdout: '',
      stderr: expect.stringMatching(
        /^Unable to find image 'none:latest' locally\n[^]*strata: Error response: docker.io has no library\/none:latest\n$/,
      ) as string,
    })
  })

  it('is cancelled with its pull', async () => {
    absent()
    service.on('POST /v1/images', () => undefined).json('DELETE /v1/jobs/{job}', 202)
    const child = start(service, ['run', '-q', 'busybox'], environment)
    const ended = outcome(child)
    await service.asked('POST', '/v1/images')
    child.kill('SIGINT')
    expect(await ended).toMatchObject({ code: 130, stderr: 'strata: the pull was cancelled\n' })
    await service.asked('DELETE', '/v1/jobs/')
    expect(launched()).toEqual(['/v1/containers', '/v1/images'])
  })

  it('knows three policies', async () => {
    const { code, stderr } = await run('run', '--pull', 'sometimes', 'x')
    expect(code).toBe(125)
    expect(stderr).toContain('must be one of always, missing or never')
  })
})
