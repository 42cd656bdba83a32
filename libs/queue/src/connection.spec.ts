import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createServer } from 'node:tls'
import { afterEach, expect, it, vi } from 'vitest'
import { producerConnection, workerConnection } from './connection.js'

afterEach(() => vi.unstubAllEnvs())

it.each([producerConnection, workerConnection])(
  'says no password to a server whose certificate nobody vouches for, whatever the environment says: %o',
  async (connection) => {
    const folder = mkdtempSync(join(tmpdir(), 'strata-rediss-'))
    const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')]
    execFileSync('openssl', [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'],
      ...['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost', '-keyout', key, '-out', cert],
    ])
    const server = createServer({ key: readFileSync(key), cert: readFileSync(cert) })
    rmSync(folder, { recursive: true })
    const said = new Promise<string>((resolve) =>
      server.on('secureConnection', (socket) =>
        socket.on('error', () => undefined).on('data', (bytes: Buffer) => resolve(bytes.toString())),
      ),
    )
    await once(server.listen(0, '127.0.0.1'), 'listening')
    vi.stubEnv('NODE_TLS_REJECT_UNAUTHORIZED', '0')
    const client = connection(`rediss://:hidden@localhost:${(server.address() as AddressInfo).port}`)
    const refused = new Promise<string>((resolve) => client.once('error', ({ message }: Error) => resolve(message)))
    expect(await Promise.race([said, refused])).toMatch(/^self-signed certificate/)
    client.disconnect()
    server.close()
  },
)
