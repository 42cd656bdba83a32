import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createServer, type AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readEndpoint } from './endpoint.js'
import { strata } from './testing/strata.js'

let folder: string
let file: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'strata-endpoint-'))
  file = join(folder, 'token')
  writeFileSync(file, 'the-token-of-this-machine\n')
})
afterAll(() => rmSync(folder, { recursive: true }))

const tokenFor = (host: string): string | undefined => {
  const endpoint = readEndpoint({ STRATA_HOST: host, STRATA_TOKEN_FILE: file })
  return endpoint.kind === 'tcp' ? endpoint.token : undefined
}

describe('the token of this machine', () => {
  it.each([
    'http://127.0.0.1',
    'http://127.0.0.1:7070',
    'http://127.255.0.3:1',
    'http://127.1',
    'http://127.0.0.1.',
    'http://0x7f.1',
    'http://0177.0.0.1',
    'http://2130706433',
    'http://127.0.0.1/',
    'http://[::1]:7070',
    'http://[0:0:0:0:0:0:0:1]',
    'http://[::ffff:127.0.0.1]',
    'http://[::ffff:7f00:1]',
    'http://localhost:7070',
    'http://LOCALHOST',
    'http://localhost.',
  ])('is for %s', (host) => {
    expect(tokenFor(host)).toBe('the-token-of-this-machine')
  })

  it.each([
    'http://127.evil.example',
    'http://127.0.0.1.evil.example',
    'http://127.0.0.1.nip.io:7070',
    'http://127.example:80',
    'http://127-0-0-1.example',
    'http://localhost.example',
    'http://notlocalhost',
    'http://example.localhost',
    'http://128.0.0.1',
    'http://126.255.255.255',
    'http://0.0.0.0',
    'http://[::]',
    'http://[::2]',
    'http://[::ffff:128.0.0.1]',
    'http://[::127.0.0.1]',
    'http://[64:ff9b::7f00:1]',
    'http://[fe80::1]',
    'http://10.127.0.0',
    'http://ip6-localhost',
  ])('is not for %s', (host) => {
    expect(tokenFor(host)).toBeUndefined()
  })

  it.each([
    'http://127.0.0.1@evil.example',
    'http://127.0.0.1:80@evil.example',
    'http://evil.example#@127.0.0.1',
    'http://evil.example?@127.0.0.1',
    'http://evil.example\\@127.0.0.1',
    'http://user@127.0.0.1',
    'http://127.0.0.1%2eevil.example/x',
    'http://127.0.0.1.0.1',
  ])('%s is no host', (host) => {
    expect(() => tokenFor(host)).toThrow('STRATA_HOST')
  })

  it('goes to localhost without asking a resolver', async () => {
    const heard: string[] = []
    const door = createServer((socket) => {
      socket
        .on('error', () => undefined)
        .once('data', (bytes: Buffer) => {
          heard.push(bytes.toString())
          socket.end('HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 13\r\n\r\n{"images":[]}')
        })
    })
    await new Promise<void>((resolve) => door.listen(0, '127.0.0.1', resolve))
    const { port } = door.address() as AddressInfo
    const endpoint = readEndpoint({ STRATA_HOST: `http://localhost:${port}` })
    const { lookup } = endpoint as {
      lookup?: (host: string, options: { all: boolean }, found: (error: null, addresses: unknown) => void) => void
    }
    const found = await new Promise((resolve) =>
      lookup?.('localhost', { all: true }, (_error, addresses) => resolve(addresses)),
    )
    expect(found).toEqual([
      { address: '127.0.0.1', family: 4 },
      { address: '::1', family: 6 },
    ])
    expect(
      await strata(undefined, ['images'], {
        environment: { STRATA_HOST: `http://localhost:${port}`, STRATA_TOKEN_FILE: file },
      }),
    ).toMatchObject({ code: 0, stderr: '' })
    door.close()
    expect(heard[0]).toContain('Bearer the-token-of-this-machine')
  })
})
