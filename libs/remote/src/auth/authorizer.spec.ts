import type { IncomingMessage, ServerResponse } from 'node:http'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { digestOf, MEDIA, type Tag } from '@strata/oci'
import { HostsConfiguration } from '../hosts/hosts-configuration.js'
import type { RemoteLimits } from '../limits.js'
import { RemoteRegistries } from '../remote-registries.js'
import type { Credentials, RemoteRepository } from '../remote-repository.js'
import { collect, SMALL_LIMITS, TestRegistry } from '../testing/index.js'

const MANIFEST = { schemaVersion: 2, mediaType: MEDIA.manifest, config: { digest: digestOf(''), size: 0 }, layers: [] }
const LATEST = 'latest' as Tag
const USER = { username: 'ann', password: 'pässword:1' }
const BASIC = `Basic ${Buffer.from('ann:pässword:1').toString('base64')}`
const signal = AbortSignal.timeout(600_000)

let folder: string
let registry: TestRegistry
/** Of another port, so of another place. */
let service: TestRegistry
let client: RemoteRegistries
/** The tokens that the registry takes. */
let valid: Set<string>
let given: number

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'strata-remote-'))
  registry = await TestRegistry.start()
  service = await TestRegistry.start()
  registry.addManifest('latest', MANIFEST)
  valid = new Set()
  given = 0
  client = open()
})
afterEach(async () => {
  await client.close()
  await registry[Symbol.asyncDispose]()
  await service[Symbol.asyncDispose]()
  await rm(folder, { recursive: true })
})

function open(limits: Partial<RemoteLimits> = {}): RemoteRegistries {
  const hosts = new HostsConfiguration({ folders: [folder] })
  return new RemoteRegistries({ hosts, limits: { ...SMALL_LIMITS, ...limits }, environment: {} })
}

function repository(credentials?: Credentials): RemoteRepository {
  return client.repository(registry.repository, { credentials })
}

async function configure(toml: string): Promise<void> {
  await mkdir(join(folder, registry.host), { recursive: true })
  await writeFile(join(folder, registry.host, 'hosts.toml'), toml)
}

/** The registry wants a token of the realm for everything but the token service of its own. */
function wantToken(realm: string, parameters = ',service="registry",scope="repository:fx/app:pull"'): void {
  registry.behave = (request, answer) => {
    if (request.url?.startsWith('/token')) return giveToken(request, answer)
    const token = request.headers.authorization?.replace(/^Bearer /, '')
    if (token !== undefined && valid.has(token)) return false
    answer.writeHead(401, { 'www-authenticate': `Bearer realm="${realm}"${parameters}` }).end()
    return true
  }
  service.behave = giveToken
}

function giveToken(_: IncomingMessage, answer: ServerResponse): boolean {
  const token = `token-${++given}`
  valid.add(token)
  answer.end(JSON.stringify({ token, expires_in: 300 }))
  return true
}

const own = (): string => `http://${registry.host}/token`

it('a name and password are sent when they are asked for, and not before', async () => {
  registry.behave = (request, answer) => {
    if (request.headers.authorization === BASIC) return false
    answer.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end()
    return true
  }
  const repo = repository(USER)
  await repo.manifest(LATEST, { signal })
  await repo.manifest(LATEST, { signal })
  expect(registry.seen.map(({ headers }) => headers.authorization)).toEqual([undefined, BASIC, BASIC])
  registry.seen.length = 0
  await expect(repository().manifest(LATEST, { signal })).rejects.toThrow(`strata login ${registry.host}`)
  await expect(repository({ username: 'ann', password: 'wrong' }).manifest(LATEST, { signal })).rejects.toMatchObject({
    code: 'registry_denied',
    message: expect.stringContaining('the credentials are wrong') as string,
  })
  // Wrong ones once: some services lock an account after a few.
  expect(registry.seen).toHaveLength(3)
})

it('a token of the registry itself is asked for with the credentials, and used until it expires', async () => {
  wantToken(own())
  const repo = repository(USER)
  await repo.manifest(LATEST, { signal })
  await repo.manifest(LATEST, { signal })
  await repository(USER).manifest(LATEST, { signal })
  const asked = registry.seen.filter(({ line }) => line.includes('/token'))
  expect(asked.map(({ line, headers }) => [line, headers.authorization])).toEqual([
    ['GET /token?service=registry&scope=repository%3Afx%2Fapp%3Apull&account=ann', BASIC],
  ])
  // Another user's is another one.
  await repository({ username: 'bob', password: 'x' }).manifest(LATEST, { signal })
  await repository().manifest(LATEST, { signal })
  expect(given).toBe(3)
})

it('a token that expired in the middle is renewed once for all who wait', async () => {
  wantToken(own())
  const repo = repository(USER)
  await repo.manifest(LATEST, { signal })
  valid.clear()
  await Promise.all(Array.from({ length: 8 }, async () => await repo.manifest(LATEST, { signal })))
  expect(given).toBe(2)
  // One that is not taken at once is asked for no more than twice.
  registry.behave = (request, answer) => {
    if (request.url?.startsWith('/token')) return giveToken(request, answer)
    answer.writeHead(401, { 'www-authenticate': `Bearer realm="${own()}",service="registry"` }).end()
    return true
  }
  await expect(repo.manifest(LATEST, { signal })).rejects.toMatchObject({ code: 'registry_denied' })
  expect(given).toBeLessThanOrEqual(5)
})

it('a token is asked for that can pull, and nothing else that the registry asks for', async () => {
  wantToken(own(), ',scope="repository:fx/app:delete,pull,push registry:catalog:* repository:other:push"')
  await repository(USER).manifest(LATEST, { signal })
  wantToken(own(), ',scope="registry:catalog:*"')
  valid.clear()
  await repository(USER).manifest(LATEST, { signal })
  const asked = registry.lines.filter((line) => line.includes('/token'))
  const scopes = asked.map((line) => new URL(line.slice('GET '.length), 'http://x').searchParams.getAll('scope'))
  expect(scopes.flat().every((scope) => scope === 'repository:fx/app:pull')).toBe(true)
  expect(scopes.length).toBeGreaterThan(0)
})

it('an identity token goes to the token service, as OAuth2 has it', async () => {
  wantToken(own())
  let form = ''
  const { behave } = registry
  registry.behave = async (request, answer) => {
    if (request.method === 'POST') for await (const chunk of request) form += String(chunk as Buffer)
    return await behave(request, answer)
  }
  await repository({ identityToken: 'secret' }).manifest(LATEST, { signal })
  expect(Object.fromEntries(new URLSearchParams(form))).toEqual({
    ...{ grant_type: 'refresh_token', client_id: 'strata', refresh_token: 'secret' },
    ...{ service: 'registry', scope: 'repository:fx/app:pull' },
  })
})

it('a token for the registry goes there, and nowhere else', async () => {
  wantToken(`http://${service.host}/token`)
  valid.add('given')
  await repository({ registryToken: 'given' }).manifest(LATEST, { signal })
  await expect(repository({ registryToken: 'other' }).manifest(LATEST, { signal })).rejects.toMatchObject({
    code: 'registry_denied',
  })
  expect(service.seen).toEqual([])
})

it('a token service of another place is refused, and gets the credentials where it is configured', async () => {
  wantToken(`http://${service.host}/token`)
  await expect(repository(USER).manifest(LATEST, { signal })).rejects.toMatchObject({
    code: 'address_refused',
    message: expect.stringContaining(
      `write realms = ["${service.host}"] into the hosts.toml of ${registry.host}`,
    ) as string,
  })
  expect(service.seen).toEqual([])
  // It may be led to, and is not its realm.
  wantToken(`http://localhost:${service.port}/token`)
  await configure(`server = "http://${registry.host}"\nredirects = ["localhost:${service.port}"]\n`)
  await repository(USER).manifest(LATEST, { signal })
  await configure(`server = "http://${registry.host}"\nrealms = ["localhost:${service.port}"]\n`)
  await repository(USER).manifest(LATEST, { signal })
  expect(service.seen.map(({ headers }) => headers.authorization)).toEqual([undefined, BASIC])
})

it('a redirection to another place takes no credentials along, and no way back', async () => {
  await configure(
    `server = "http://${registry.host}"\nredirects = ["${service.host}"]\n[header]\nx-secret = "of the registry"\n`,
  )
  service.addManifest('latest', MANIFEST)
  registry.behave = (request, answer) => {
    if (request.headers.authorization === undefined)
      answer.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end()
    else answer.writeHead(307, { location: `${service.url}${request.url ?? ''}` }).end()
    return true
  }
  await repository(USER).manifest(LATEST, { signal })
  expect(registry.seen.at(-1)!.headers).toMatchObject({ authorization: BASIC, 'x-secret': 'of the registry' })
  expect(service.seen[0]!.headers).not.toHaveProperty('authorization')
  expect(service.seen[0]!.headers).not.toHaveProperty('x-secret')

  // Who was led to asks for credentials: it gets none.
  service.behave = (_, answer) => !!answer.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end()
  await expect(repository(USER).manifest(LATEST, { signal })).rejects.toMatchObject({ code: 'registry_denied' })
  // Who was led to leads back: neither.
  service.behave = (_, answer) => !!answer.writeHead(307, { location: `${registry.url}/v2/elsewhere` }).end()
  registry.seen.length = 0
  await expect(repository(USER).manifest(LATEST, { signal })).rejects.toMatchObject({ code: 'registry_denied' })
  expect(
    registry.seen.filter(({ line }) => line.includes('elsewhere')).map(({ headers }) => headers.authorization),
  ).toEqual([undefined])
})

it('a page of another place takes no credentials along', async () => {
  await configure(`server = "http://${registry.host}"\nredirects = ["${service.host}"]\n`)
  registry.behave = (request, answer) => {
    if (request.headers.authorization === undefined)
      answer.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end()
    else answer.writeHead(200, { link: `<${service.url}/v2/fx/app/tags/list>; rel="next"` }).end('{"tags":["a"]}')
    return true
  }
  service.tags = ['b']
  expect(await collect(repository(USER).tags({ signal }))).toEqual(['a', 'b'])
  expect(service.seen[0]!.headers).not.toHaveProperty('authorization')
})

it.each([
  ['that is large', JSON.stringify({ token: 'x'.repeat(5_000) }), 'limit_exceeded'],
  ['that is deep', `{"token":"x","y":${'['.repeat(100)}${']'.repeat(100)}}`, 'limit_exceeded'],
  ['that is no JSON', '<html>', 'registry_invalid'],
  ['without a token', '{"hello":"world"}', 'registry_invalid'],
  ['with a token that is no header', '{"token":"a\\r\\nb: c"}', 'registry_invalid'],
  ['with a token of another type', '{"token":{"a":1}}', 'registry_invalid'],
])('an answer of a token service %s is refused', async (_, body, code) => {
  wantToken(own())
  const { behave } = registry
  registry.behave = (request, answer) =>
    request.url?.startsWith('/token') ? !!answer.end(body) : behave(request, answer)
  await expect(repository(USER).manifest(LATEST, { signal })).rejects.toMatchObject({ code })
})

it('what a token service refuses is told, without the credentials', async () => {
  wantToken(own())
  const { behave } = registry
  registry.behave = (request, answer) =>
    request.url?.startsWith('/token') ? !!answer.writeHead(401).end() : behave(request, answer)
  const refused = await repository(USER)
    .manifest(LATEST, { signal })
    .catch((error: unknown) => error as Error)
  expect(refused).toMatchObject({ code: 'registry_denied' })
  expect(JSON.stringify(refused) + (refused as Error).message).not.toMatch(/pässword|YW5u/)
})

it('tokens are kept for a bounded number of repositories', async () => {
  await client.close()
  client = open({ maxTokens: 2 })
  wantToken(own(), ',service="registry"')
  const scopes = ['a', 'b', 'c']
  for (const name of scopes) {
    const repo = client.repository(`${registry.host}/${name}` as typeof registry.repository, { credentials: USER })
    await expect(repo.manifest(LATEST, { signal })).rejects.toMatchObject({ code: 'manifest_not_found' })
  }
  expect(given).toBe(3)
  const again = client.repository(`${registry.host}/a` as typeof registry.repository, { credentials: USER })
  await expect(again.manifest(LATEST, { signal })).rejects.toMatchObject({ code: 'manifest_not_found' })
  expect(given).toBe(4)
})
