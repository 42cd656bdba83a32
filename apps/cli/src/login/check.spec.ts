import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { RegistryDouble } from '../testing/registry-double.js'
import { challengesOf } from './challenge.js'
import { checkLogin } from './check.js'
import { isPublic } from './request.js'

let registry: RegistryDouble
beforeEach(async () => void (registry = await RegistryDouble.start()))
afterEach(() => registry[Symbol.asyncDispose]())
const check = () => checkLogin(registry.host, { username: 'me', password: 'pw' })
const withPassword = () => registry.seen.filter(({ authorization }) => authorization?.startsWith('Basic')).length

describe('a registry that is asked for a login', () => {
  it.each([
    ['leads the password to a file', 'Bearer realm="file:///etc/passwd"', 'which is no https:// address'],
    ['leads it to nowhere', 'Bearer service="x"', 'which is no https:// address'],
    ['hides where', 'Bearer realm="http://{host}@evil.example/"', 'which is no https:// address'],
    ['leads it to another host without TLS', 'Bearer realm="http://localhost:1/"', 'which is no https:// address'],
    ['asks for something else', 'Negotiate', 'asks for neither a password nor a token'],
    ['asks for nothing', '', 'asks for neither a password nor a token'],
  ])('and %s does not get it', async (_, asks, why) => {
    registry.asks = asks
    await expect(check()).rejects.toThrow(why)
    expect(withPassword()).toBe(0)
  })

  it.each([
    ['a redirection', 307, 'failed with status: 307'],
    ['an error', 500, 'failed with status: 500'],
    ['nothing there', 404, 'failed with status: 404'],
  ])('and answers with %s is not followed', async (_, status, why) => {
    registry.instead.set('/v2/', (response) => response.writeHead(status, { location: '/other' }).end())
    await expect(check()).rejects.toThrow(why)
    expect(registry.seen.some(({ url }) => url === '/other')).toBe(false)
    expect(withPassword()).toBe(0)
  })

  it.each([
    ['no JSON', 'x', 'gave no token'],
    ['no token', '{}', 'gave no token'],
    ['a token of two lines', '{"token":"a\\r\\nx: y"}', 'gave no token'],
    ['nesting', '['.repeat(100_000), 'gave no token'],
    ['an answer without end', undefined, 'answered with more than 1048576 bytes'],
  ])('and whose realm answers with %s', async (_, body, why) => {
    registry.asks = 'Bearer realm="http://{host}/token"'
    registry.instead.set('/token', (response) => {
      if (body !== undefined) return response.end(body)
      const more = (): void => {
        while (response.write(Buffer.alloc(65536)));
      }
      response.on('drain', more)
      more()
      return response
    })
    await expect(check()).rejects.toThrow(why)
  })

  it('and changes the protocol is refused', async () => {
    registry.instead.set('/v2/', ({ socket }) =>
      socket?.end('HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n'),
    )
    await expect(check()).rejects.toThrow('the answer changes the protocol')
    expect(withPassword()).toBe(0)
  })

  it('is not there', async () => {
    const { host } = registry
    await registry[Symbol.asyncDispose]()
    await expect(checkLogin(host, { username: 'me', password: 'pw' })).rejects.toThrow(`Get "http://${host}/v2/": `)
    registry = await RegistryDouble.start()
    await expect(checkLogin('none.invalid', { username: 'me', password: 'pw' })).rejects.toThrow(
      'cannot find the address',
    )
  })
})

it.each([
  ['Basic realm="a, b=c"', [['basic', { realm: 'a, b=c' }]]],
  [
    'Negotiate, bearer Realm = "https://a/\\"x",service=plain',
    [
      ['negotiate', {}],
      ['bearer', { realm: 'https://a/"x', service: 'plain' }],
    ],
  ],
  ['Bearer realm="open', [['bearer', {}]]],
  ['realm="x"', []],
  ['', []],
  ['=,"', []],
  ['a '.repeat(50_000), expect.any(Array) as never],
])('challenges of %j', (header, wanted) => {
  const found = challengesOf(header).map(({ scheme, parameters }) => [scheme, Object.fromEntries(parameters)])
  expect(found).toEqual(wanted)
})

it.each([
  ['8.8.8.8', true],
  ['127.0.0.1', false],
  ['10.1.2.3', false],
  ['172.31.0.1', false],
  ['192.168.1.1', false],
  ['169.254.169.254', false],
  ['100.64.0.1', false],
  ['168.63.129.16', false],
  ['192.88.99.1', false],
  ['3fff::1', false],
  ['0.0.0.0', false],
  ['255.255.255.255', false],
  ['2606:4700::1', true],
  ['::1', false],
  ['::', false],
  ['::ffff:10.0.0.1', false],
  ['::ffff:8.8.8.8', true],
  ['fe80::1%eth0', false],
  ['fd00::1', false],
])('%s is public: %s', (address, wanted) => {
  expect(isPublic({ address, family: 0 })).toBe(wanted)
})
