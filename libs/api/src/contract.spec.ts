import { expect, expectTypeOf, it } from 'vitest'
import { API, type ApiAnswer, type ApiRequest, type Contract } from './contract.js'
import { NODE_API } from './node-api.js'
import { pathOf } from './routes.js'

it.each<[name: string, routes: Contract[]]>([
  ['the public API', Object.values(API)],
  ['the node API', Object.values(NODE_API)],
])('%s: each route has one place, and a schema for its parameter', (_, routes) => {
  const places = routes.map(({ method, path }) => `${method} ${path}`)
  expect(new Set(places).size).toBe(places.length)
  for (const { path, param, method, body } of routes) {
    expect(path.match(/:\w+/g)?.length ?? 0, path).toBe(param ? 1 : 0)
    if (method === 'GET') expect(body, path).toBeUndefined()
  }
})

it('a path is filled in: parameters are one segment, queries are encoded, what is undefined is left out', () => {
  const request = { params: { ref: 'a/b:1 ?#%' }, query: { force: true, also: ['x&y', 'z'], gone: undefined } }
  expect(pathOf('/v1/images/:ref/tag', request)).toBe(
    '/v1/images/a%2Fb%3A1%20%3F%23%25/tag?force=true&also=x%26y&also=z',
  )
  expect(pathOf('/v1/jobs')).toBe('/v1/jobs')
})

it('the types of a request and its answer are the schemas’', () => {
  expectTypeOf<ApiRequest<'removeImage'>['params']>().toEqualTypeOf<Readonly<Record<'ref', string>>>()
  expectTypeOf<ApiRequest<'tagImage'>['body']>().toEqualTypeOf<{ name: string } | undefined>()
  expectTypeOf<ApiRequest<'tagImage'>['query']>().toEqualTypeOf<undefined>()
  expectTypeOf<ApiAnswer<'umountImage'>>().toEqualTypeOf<undefined>()
  expectTypeOf<ApiAnswer<'waitContainer'>['exitCode']>().toEqualTypeOf<number>()
})
