import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, expect, it, vi } from 'vitest'
import { S3Client } from './s3-client.js'

afterEach(() => vi.unstubAllEnvs())

it('asks no server whose certificate nobody vouches for, whatever the environment says', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'strata-s3-tls-'))
  const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')]
  execFileSync('openssl', [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'],
    ...['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost', '-keyout', key, '-out', cert],
  ])
  let requests = 0
  const server = createServer({ key: readFileSync(key), cert: readFileSync(cert) }, (_, answer) => {
    requests++
    answer.end()
  })
  rmSync(folder, { recursive: true })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  vi.stubEnv('NODE_TLS_REJECT_UNAUTHORIZED', '0')
  const client = new S3Client({
    ...{ endpoint: `https://localhost:${(server.address() as AddressInfo).port}`, region: 'us-east-1' },
    ...{ accessKey: 'a', secretKey: 'hidden', bucket: 'bucket' },
  })
  await expect(client.send({ method: 'GET', key: 'x' })).rejects.toThrow('self-signed certificate')
  await expect(client.send({ method: 'HEAD' })).rejects.toThrow('self-signed certificate')
  expect(requests).toBe(0)
  client.close()
  server.close()
})
