import { MAX_REGISTRY_AUTH } from '@strata/api'
import { expect, it } from 'vitest'
import { credentialsIn } from './registry-auth.js'

const header = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url')

it.each([
  [undefined, undefined],
  ['', undefined],
  // What docker sends for nobody.
  [header({}), undefined],
  [header({ username: '', password: '' }), undefined],
  [header({ username: 'a', password: '' }), { username: 'a', password: '' }],
  [header({ username: 'a', password: 'b', serveraddress: 'https://x/v1/' }), { username: 'a', password: 'b' }],
  [header({ username: 'a', password: 'b', identitytoken: 't' }), { identityToken: 't' }],
  [header({ identitytoken: 't', registrytoken: 'r' }), { registryToken: 'r' }],
  // With padding, and in the other alphabet: clients send both.
  [Buffer.from('{"username":"a>?","password":"b"}').toString('base64'), { username: 'a>?', password: 'b' }],
])('%s is %o', (text, credentials) => {
  expect(credentialsIn(text)).toEqual(credentials)
})

it.each([
  ['no json'],
  [header('secret')],
  [header({ username: { secret: 1 } })],
  [header({ registrytoken: 'secret\nx: y' })],
  ['secret'.repeat(MAX_REGISTRY_AUTH)],
])('refuses what it is not, and quotes nothing of it', (text) => {
  expect(() => credentialsIn(text)).toThrow(expect.objectContaining({ code: 'bad_request' }) as Error)
  expect(() => credentialsIn(text)).not.toThrow(/secret/)
})
