import { expect, it } from 'vitest'
import { parseChallenges } from './challenge.js'

const parsed = (...fields: string[]): unknown =>
  parseChallenges(fields, 'GET x').map(({ scheme, parameters }) => [scheme, Object.fromEntries(parameters)])

it('reads what registries write', () => {
  expect(
    parsed('Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull"'),
  ).toEqual([
    ['bearer', { realm: 'https://auth.docker.io/token', service: 'registry.docker.io', scope: 'repository:a/b:pull' }],
  ])
  expect(parsed('Basic realm="a \\"quoted\\" one"')).toEqual([['basic', { realm: 'a "quoted" one' }]])
  expect(parsed('BEARER Realm = token , service=x')).toEqual([['bearer', { realm: 'token', service: 'x' }]])
  expect(parsed('Negotiate, Basic realm="x", Bearer realm="y"')).toEqual([
    ['negotiate', {}],
    ['basic', { realm: 'x' }],
    ['bearer', { realm: 'y' }],
  ])
  expect(parsed('Negotiate abc==', 'Basic realm=x')).toEqual([
    ['negotiate', {}],
    ['basic', { realm: 'x' }],
  ])
  expect(parsed('')).toEqual([])
})

it('takes the first of two realms, and refuses what is no challenge', () => {
  expect(parsed('Bearer realm="a",realm="b"')).toEqual([['bearer', { realm: 'a' }]])
  expect(() => parsed('=')).toThrow('not valid')
  expect(() => parsed('Bearer realm="open')).toThrow('not valid')
})

it('reads a long field in a time that grows with its length', () => {
  const field = `Bearer realm="${'\\a'.repeat(8_000)}"${',x="y"'.repeat(2_000)}`
  expect(parseChallenges([field], 'GET x')).toHaveLength(1)
  expect(() => parseChallenges([`Bearer ${'a='.repeat(16_000)}`], 'GET x')).toThrow('not valid')
})
