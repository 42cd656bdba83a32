import { expect, it } from 'vitest'
import { tokenFollows } from './token-follows.js'

it.each([
  ['registry.example.com', 'https://registry.example.com'],
  ['registry.example.com:5000', 'http://registry.example.com:9000'],
  ['registry.example.com', 'https://s3.registry.example.com'],
  ['Registry.Example.com.', 'https://a.b.registry.example.com:9000'],
  ['127.0.0.1:8080', 'http://127.0.0.1:9000'],
  ['[::1]:8080', 'http://[::1]:9000'],
  // Nobody can say what the client's name of the gateway is.
  [undefined, 'https://s3.example.com'],
  ['no host', 'https://s3.example.com'],
])('a token goes from %s to %s', (host, to) => {
  expect(tokenFollows(host, to)).toBe(true)
})

it.each([
  ['registry.example.com', 'https://s3.example.com'],
  ['registry.example.com', 'https://example.com'],
  ['registry.example.com', 'https://notregistry.example.com'],
  ['127.0.0.1:8080', 'http://localhost:9000'],
  ['10.0.0.1', 'http://110.0.0.1'],
])('a token does not go from %s to %s', (host, to) => {
  expect(tokenFollows(host, to)).toBe(false)
})
