import { createPrivateKey, randomBytes, randomUUID, sign, X509Certificate } from 'node:crypto'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { digestOf, MEDIA, parseReference, type Tag } from '@strata/oci'
import { HostsConfiguration } from './hosts/hosts-configuration.js'
import { RemoteRegistries } from './remote-registries.js'
import type { Credentials, RemoteRepository } from './remote-repository.js'
import { collect, Distribution, DISTRIBUTIONS, selfSigned, TestRegistry } from './testing/index.js'

const USER = { username: 'ann', password: 'secret-of-ann' }
const BASIC = `Basic ${Buffer.from('ann:secret-of-ann').toString('base64')}`
/** Of `htpasswd -Bbn ann secret-of-ann`. */
const HTPASSWD = 'ann:$2y$05$fZpF8vWTidiPe89BXPyfQuf.g21lq5EJah0JU40QKpCFHHLchDgfi\n'
const MEBIBYTE = 1024 * 1024
const CONFIG = Buffer.from('{}')
/** Large enough to come in ranges. */
const LAYER = randomBytes(40 * MEBIBYTE)
const signal = AbortSignal.timeout(600_000)

const referred = (bytes: Buffer, mediaType: string): object => ({
  mediaType,
  digest: digestOf(bytes),
  size: bytes.length,
})
const MANIFEST = {
  schemaVersion: 2,
  mediaType: MEDIA.manifest,
  config: referred(CONFIG, MEDIA.config),
  layers: [referred(LAYER, MEDIA.layer)],
}
const MANIFEST_DIGEST = digestOf(JSON.stringify(MANIFEST))

let folder: string
beforeAll(async () => void (folder = await mkdtemp(join(tmpdir(), 'strata-remote-'))))
afterAll(async () => await rm(folder, { recursive: true }))

describe.each(DISTRIBUTIONS)('%s', (_, program) => {
  describe('with a password', () => {
    let there: Distribution
    let client: RemoteRegistries
    beforeAll(async () => {
      const auth = { htpasswd: { realm: 'test', path: 'FOLDER/htpasswd' } }
      there = await Distribution.start(program, { auth, files: { htpasswd: HTPASSWD } })
      await there.push('fx/app', '1', MANIFEST, [CONFIG, LAYER], BASIC)
      for (const tag of ['2', '3', '4']) await there.push('fx/app', tag, MANIFEST, [], BASIC)
      client = new RemoteRegistries({ hosts: new HostsConfiguration({ folders: [folder] }) })
    })
    afterAll(async () => {
      await client.close()
      await there[Symbol.asyncDispose]()
    })
    const app = (credentials?: Credentials): RemoteRepository =>
      client.repository(parseReference(`${there.host}/fx/app`).repository, { credentials })

    it('gives manifests, blobs, tags and referrers', async () => {
      await givesAll(app(USER))
    })

    it('refuses without the password, and with another one', async () => {
      for (const credentials of [undefined, { ...USER, password: 'other' }])
        await expect(app(credentials).manifest('1' as Tag, { signal })).rejects.toMatchObject({
          code: 'registry_denied',
        })
    })
  })

  describe('with tokens', () => {
    const service = new TokenService()
    let there: Distribution
    let client: RemoteRegistries
    beforeAll(async () => {
      await service.start()
      const token = { realm: service.realm, service: 'fx', issuer: 'test', rootcertbundle: 'FOLDER/root.pem' }
      there = await Distribution.start(program, { auth: { token }, files: { 'root.pem': service.certificate } })
      const all = `Bearer ${service.token(['pull', 'push'])}`
      await there.push('fx/app', '1', MANIFEST, [CONFIG, LAYER], all)
      for (const tag of ['2', '3', '4']) await there.push('fx/app', tag, MANIFEST, [], all)
      await mkdir(join(folder, there.host))
      await writeFile(
        join(folder, there.host, 'hosts.toml'),
        `server = "http://${there.host}"\nrealms = ["${service.host}"]\n`,
      )
      client = new RemoteRegistries({ hosts: new HostsConfiguration({ folders: [folder] }) })
    })
    afterAll(async () => {
      await client.close()
      await there[Symbol.asyncDispose]()
      await service.stop()
    })
    const app = (credentials?: Credentials): RemoteRepository =>
      client.repository(parseReference(`${there.host}/fx/app`).repository, { credentials })

    it('gives manifests, blobs, tags and referrers for one token', async () => {
      await givesAll(app(USER))
      expect(service.asked).toEqual(['GET /token?service=fx&scope=repository%3Afx%2Fapp%3Apull&account=ann'])
    })

    it('gives them for an identity token, too', async () => {
      await givesAll(app({ identityToken: 'of ann' }))
    })

    it('refuses who has no token', async () => {
      await expect(app().manifest('1' as Tag, { signal })).rejects.toMatchObject({ code: 'registry_denied' })
    })

    it('refuses a token service that is not configured', async () => {
      const other = new RemoteRegistries({ hosts: new HostsConfiguration({ folders: [] }) })
      const repository = other.repository(parseReference(`${there.host}/fx/app`).repository, { credentials: USER })
      await expect(repository.manifest('1' as Tag, { signal })).rejects.toMatchObject({ code: 'address_refused' })
      await other.close()
    })
  })
})

async function givesAll(app: RemoteRepository): Promise<void> {
  const byTag = await app.manifest('1' as Tag, { signal })
  expect(byTag).toMatchObject({ digest: MANIFEST_DIGEST, mediaType: MEDIA.manifest })
  expect((await app.manifest(MANIFEST_DIGEST, { signal })).bytes).toEqual(byTag.bytes)
  await expect(app.manifest('none' as Tag, { signal })).rejects.toMatchObject({ code: 'manifest_not_found' })
  // Version 2 gives them in no order.
  expect((await collect(app.tags({ signal }))).sort()).toEqual(['1', '2', '3', '4'])
  expect(await collect(app.referrers(MANIFEST_DIGEST, { signal }))).toEqual([])
  for (const [bytes, start] of [
    [CONFIG, 0],
    [LAYER, 0],
    [LAYER, 39 * MEBIBYTE],
    [LAYER, 1],
  ] as const) {
    const blob = await app.blob({ digest: digestOf(bytes), size: bytes.length }, { signal, start })
    expect(blob.start).toBe(start)
    let at = start
    for await (const chunk of blob.body) {
      expect(bytes.subarray(at, at + chunk.length).equals(chunk)).toBe(true)
      at += chunk.length
    }
    expect(at).toBe(bytes.length)
  }
  const digest = digestOf('none')
  await expect(app.blob({ digest, size: 4 }, { signal })).rejects.toMatchObject({ code: 'blob_not_found' })
}

/** A token service (distribution: "Token Authentication Specification", "Token Specification"). */
class TokenService {
  readonly #pair = selfSigned('token service')
  #server: TestRegistry | undefined
  readonly asked: string[] = []

  get certificate(): string {
    return this.#pair.cert
  }

  get host(): string {
    return this.#server!.host
  }

  get realm(): string {
    return `${this.#server!.url}/token`
  }

  async start(): Promise<void> {
    this.#server = await TestRegistry.start()
    this.#server.behave = async (request, answer) => {
      let body = ''
      for await (const chunk of request) body += String(chunk as Buffer)
      const isUser =
        request.headers.authorization === BASIC || new URLSearchParams(body).get('refresh_token') === 'of ann'
      if (request.headers.authorization === BASIC) this.asked.push(`${request.method!} ${request.url!}`)
      if (isUser) answer.end(JSON.stringify({ access_token: this.token(['pull']), expires_in: 300 }))
      else answer.writeHead(401).end()
      return true
    }
  }

  token(actions: readonly string[]): string {
    const x5c = [new X509Certificate(this.#pair.cert).raw.toString('base64')]
    const now = Math.floor(Date.now() / 1000)
    const claims = {
      ...{ iss: 'test', sub: 'ann', aud: 'fx', jti: randomUUID(), iat: now, nbf: now - 10, exp: now + 300 },
      access: [{ type: 'repository', name: 'fx/app', actions }],
    }
    const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url')
    const text = `${encode({ typ: 'JWT', alg: 'ES256', x5c })}.${encode(claims)}`
    const key = createPrivateKey(this.#pair.key)
    return `${text}.${sign('sha256', Buffer.from(text), { key, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`
  }

  async stop(): Promise<void> {
    await this.#server?.[Symbol.asyncDispose]()
  }
}
