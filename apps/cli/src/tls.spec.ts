import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer as createPlainServer, type RequestListener, type Server as PlainServer } from 'node:http'
import { createServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { strata, type Outcome } from './testing/strata.js'

/** A door with TLS, whose certificate is for `localhost` and vouches for itself. */
let folder: string
let ca: string
let door: Server
let plain: PlainServer
const seen: (string | undefined)[] = []
const answer: RequestListener = (request, response) => {
  seen.push(request.headers.authorization)
  response.setHeader('content-type', 'application/json').end('{"images":[]}')
}
const portOf = (server: PlainServer | Server): number => (server.address() as AddressInfo).port

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'strata-tls-'))
  ca = join(folder, 'ca.pem')
  const key = join(folder, 'key.pem')
  execFileSync('openssl', [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'],
    ...['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost', '-keyout', key, '-out', ca],
  ])
  door = createServer({ key: readFileSync(key), cert: readFileSync(ca) }, answer)
  plain = createPlainServer(answer)
  for (const server of [door, plain]) await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
})
afterAll(() => {
  for (const server of [door, plain]) server.close()
  rmSync(folder, { recursive: true })
})

function images(host: string, file?: string, more: NodeJS.ProcessEnv = {}): Promise<Outcome> {
  seen.length = 0
  const environment = { STRATA_HOST: host, STRATA_TOKEN: 'secret', ...(file && { STRATA_TLS_CA: file }), ...more }
  return strata(undefined, ['images', '-q'], { environment })
}

it('https:// asks a host that the authorities of STRATA_TLS_CA vouch for, with the token', async () => {
  expect(await images(`https://localhost:${portOf(door)}`, ca)).toMatchObject({ code: 0, stderr: '' })
  expect(seen).toEqual(['Bearer secret'])
})

it.each([
  [
    'a certificate of nobody known',
    'localhost',
    false,
    'nobody known vouches for its certificate. Name the file of its authority in STRATA_TLS_CA',
  ],
  ['a certificate of another host', '127.0.0.1', true, "does not match certificate's altnames"],
])('https:// gives %s no token', async (_, host, trusted, says) => {
  const outcome = await images(`https://${host}:${portOf(door)}`, trusted ? ca : undefined)
  expect(outcome).toMatchObject({ code: 1, stdout: '' })
  expect(outcome.stderr).toContain(`strata: cannot talk to Strata at https://${host}:`)
  expect(outcome.stderr).toContain(says)
  expect(outcome.stderr.trimEnd().split('\n')).toHaveLength(1)
  expect(seen).toEqual([])
})

it.each([
  ['localhost', false],
  ['127.0.0.1', true],
])('no variable turns verification off: %s', async (host, trusted) => {
  const off = { NODE_TLS_REJECT_UNAUTHORIZED: '0' }
  const outcome = await images(`https://${host}:${portOf(door)}`, trusted ? ca : undefined, off)
  expect(outcome).toMatchObject({ code: 1, stdout: '' })
  expect(outcome.stderr).toContain(`strata: cannot talk to Strata at https://${host}:`)
  expect(seen).toEqual([])
})

it('the wrong one of http:// and https:// is said to be so', async () => {
  const { stderr } = await images(`https://localhost:${portOf(plain)}`, ca)
  expect(stderr).toContain('it does not speak TLS. Is it http://?')
  expect((await images(`http://localhost:${portOf(door)}`)).stderr).toMatch(/^strata: .*http:\/\/localhost.*\n$/)
  expect(seen).toEqual([])
})

it('a handshake that fails for another reason is told with that reason', async () => {
  const old = createServer({
    ...{ key: readFileSync(join(folder, 'key.pem')), cert: readFileSync(ca) },
    ...{ minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1', ciphers: 'ALL:@SECLEVEL=0' },
  })
  await new Promise<void>((resolve) => old.listen(0, '127.0.0.1', resolve))
  const host = `https://localhost:${portOf(old)}`
  const { stderr } = await images(host, ca)
  old.close()
  expect(stderr).toMatch(
    new RegExp(`^strata: cannot talk to Strata at ${host}: the TLS handshake failed: .*protocol.*\n$`),
  )
})

it('STRATA_TLS_CA is a file of certificates', async () => {
  const host = `https://localhost:${portOf(door)}`
  writeFileSync(join(folder, 'none.pem'), 'no certificate')
  expect(await images(host, join(folder, 'none.pem'))).toMatchObject({
    code: 1,
    stderr: `strata: STRATA_TLS_CA ${folder}/none.pem has no certificate in PEM (-----BEGIN CERTIFICATE-----)\n`,
  })
  expect(await images(host, join(folder, 'absent.pem'))).toMatchObject({
    code: 1,
    stderr: `strata: STRATA_TLS_CA ${folder}/absent.pem: no such file or directory\n`,
  })
})
