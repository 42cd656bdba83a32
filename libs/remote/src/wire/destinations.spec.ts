import { expect, it, vi } from 'vitest'
import { addressesOf, Destinations } from './destinations.js'

const answers = vi.hoisted(() => new Map<string, string[]>())
vi.mock('node:dns/promises', () => ({
  lookup: async (name: string) =>
    await Promise.resolve(
      (answers.get(name) ?? []).map((address) => ({ address, family: address.includes(':') ? 6 : 4 })),
    ),
}))

const registry = new Destinations('named.example', { named: ['named.example:443', 'named.example:80'], plain: [] })

it('a name that is not public is refused, and of several addresses the public ones stay', async () => {
  answers.set('a.example', ['127.0.0.1', '1.1.1.1', 'fe80::1', '::ffff:8.8.8.8'])
  const to = registry.resolve('https://a.example/x')
  expect((await addressesOf(to)).map(({ address }) => address)).toEqual(['1.1.1.1', '::ffff:8.8.8.8'])
  answers.set('a.example', ['127.0.0.1', '::1'])
  await expect(addressesOf(to)).rejects.toMatchObject({ code: 'address_refused' })
  answers.set('a.example', [])
  await expect(addressesOf(to)).rejects.toMatchObject({ code: 'address_refused' })
})

it('the host and port that were named may be anywhere; its other ports may not', async () => {
  answers.set('named.example', ['10.0.0.1'])
  expect(await addressesOf(registry.resolve('https://named.example/v2'))).toEqual([{ address: '10.0.0.1', family: 4 }])
  await expect(addressesOf(registry.resolve('https://named.example:8443/'))).rejects.toMatchObject({
    code: 'address_refused',
  })
})

it('HTTPS never leads to plain HTTP, and plain HTTP needs to be configured', () => {
  const from = new URL('https://named.example/v2/')
  expect(() => registry.resolve('http://named.example/', from)).toThrow('led to from HTTPS')
  expect(() => registry.resolve('http://1.1.1.1/', from)).toThrow('led to from HTTPS')
  expect(() => registry.resolve('http://named.example/')).toThrow('use --insecure')
  expect(registry.resolve('//1.1.1.1/x', from).url.href).toBe('https://1.1.1.1/x')
  expect(registry.resolve('/x#y', from)).toMatchObject({ isNamed: true })
})
