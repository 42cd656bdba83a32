import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setDefaultCACertificates } from 'node:tls'
import { afterAll, afterEach, beforeAll, expect, it, vi } from 'vitest'
import type { Etag } from '../objects/object-store.js'
import { DirectReads } from './bodies/direct-reads.js'
import { S3Client } from './s3-client.js'

afterEach(() => vi.unstubAllEnvs())

const BYTES = Buffer.from('0123456789')
const PIECE = { start: 2, end: 8, size: BYTES.length, etag: 'tag' as Etag }
let requests = 0
let server: Server
let cert: string
beforeAll(async () => {
  const folder = mkdtempSync(join(tmpdir(), 'strata-s3-tls-'))
  const [key, certFile] = [join(folder, 'key.pem'), join(folder, 'cert.pem')]
  execFileSync('openssl', [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'],
    ...['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost', '-keyout', key, '-out', certFile],
  ])
  cert = readFileSync(certFile, 'utf8')
  server = createServer({ key: readFileSync(key), cert }, (_, answer) => {
    requests++
    answer.writeHead(206, { 'content-length': 6, 'content-range': 'bytes 2-7/10', etag: '"tag"' })
    answer.write(BYTES.subarray(2, 5))
    setImmediate(() => answer.end(BYTES.subarray(5, 8)))
  })
  rmSync(folder, { recursive: true })
  await once(server.listen(0, '127.0.0.1'), 'listening')
})
afterAll(() => server.close())
const endpoint = (): string => `https://localhost:${(server.address() as AddressInfo).port}`

async function readDirectly(): Promise<string> {
  const reads = new DirectReads(new URL(endpoint()))
  const into = Buffer.alloc(6)
  const length = await reads.read(new URL(`${endpoint()}/x`), PIECE, into, new AbortController().signal)
  reads.close()
  return into.toString('latin1', 0, length)
}

it('asks no server whose certificate nobody vouches for, whatever the environment says', async () => {
  vi.stubEnv('NODE_TLS_REJECT_UNAUTHORIZED', '0')
  const client = new S3Client({
    ...{ endpoint: endpoint(), region: 'us-east-1' },
    ...{ accessKey: 'a', secretKey: 'hidden', bucket: 'bucket' },
  })
  await expect(client.send({ method: 'GET', key: 'x' })).rejects.toThrow('self-signed certificate')
  await expect(client.send({ method: 'HEAD' })).rejects.toThrow('self-signed certificate')
  expect(await readDirectly()).toBe('')
  expect(requests).toBe(0)
  client.close()
})

it('reads a range directly over TLS from a server that an authority vouches for', async () => {
  setDefaultCACertificates([cert])
  expect(await readDirectly()).toBe('234567')
  expect(requests).toBe(1)
})
