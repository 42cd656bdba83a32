import { expect, it } from 'vitest'
import { routeOf } from './routes.js'

it.each([
  ['GET', '/v2', 'base', '', ''],
  ['GET', '/v2/', 'base', '', ''],
  ['GET', '/v2/_catalog?n=1', 'catalog', '', ''],
  ['HEAD', '/v2/a/manifests/1', 'getManifest', 'a', '1'],
  ['GET', '/v2/ghcr.io/a/b/tags/list', 'tags', 'ghcr.io/a/b', 'list'],
  ['GET', '/v2/a/blobs/sha256%3A00', 'getBlob', 'a', 'sha256:00'],
  // Components of a name that are words of the routes.
  ['GET', '/v2/manifests/manifests/manifests', 'getManifest', 'manifests', 'manifests'],
  ['GET', '/v2/a/blobs/tags/list', 'tags', 'a/blobs', 'list'],
  ['GET', '/v2/tags/list/manifests/list', 'getManifest', 'tags/list', 'list'],
  ['GET', '/v2/_catalog/blobs/x', 'getBlob', '_catalog', 'x'],
])('%s %s is %s', (method, url, operation, name, last) => {
  expect(routeOf(method, url)).toMatchObject({ operation, name, last })
})

it.each([
  ['GET', '/v2/a'],
  ['GET', '/v2/tags/list'],
  ['GET', '/v2/manifests/1'],
  ['GET', '/v2//'],
  ['TRACE', '/v2/a/manifests/1'],
])('%s %s is no route', (method, url) => {
  expect(() => routeOf(method, url)).toThrow(expect.objectContaining({ code: 'not_found' }))
})

it('a path has one spelling, and is text', () => {
  expect(() => routeOf('GET', '/v2/a%2Fb/manifests/1')).toThrow(expect.objectContaining({ code: 'name_invalid' }))
  expect(() => routeOf('GET', '/v2/a/manifests/%2f')).toThrow(expect.objectContaining({ code: 'name_invalid' }))
  expect(() => routeOf('GET', '/v2/%ff/manifests/1')).toThrow(expect.objectContaining({ code: 'bad_request' }))
})

it('the query is read, a question mark in it too', () => {
  expect(routeOf('GET', '/v2/a/tags/list?n=3&last=a%2Bb?').query.get('last')).toBe('a+b?')
})
