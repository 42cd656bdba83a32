import type { ContainerView, JobList, NodeList } from '@strata/api'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { z } from 'zod'
import { loadBusybox } from './testing/busybox-image.js'
import { StrataUnderTest } from './testing/strata.js'

/*
 * What the description of the API says of its answers is true: status, type, and the schema of what
 * is JSON. In short: requests of every route that are wrong in each way, and right ones with all
 * there is to show. In full, as a command: CONTRIBUTING.md, schemathesis.
 */

interface Operation {
  readonly parameters?: readonly { readonly name: string; readonly in: string }[]
  readonly responses: Readonly<Record<string, { readonly content?: Readonly<Record<string, { schema?: object }>> }>>
}
interface Document {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>
  readonly components: { readonly schemas: Readonly<Record<string, object>> }
}

let strata: StrataUnderTest
let document: Document
beforeAll(async () => {
  strata = await StrataUnderTest.start()
  document = (await strata.request('GET', '/docs/openapi.json')).json<Document>()
})
afterAll(async () => {
  await strata.dispose()
})

/** The schema of the document, with all that it refers to, as one that checks. */
function checkOf(schema: object): z.ZodType {
  const whole = JSON.stringify({ ...schema, $defs: document.components.schemas })
  return z.fromJSONSchema(
    JSON.parse(whole.replaceAll('#/components/schemas/', '#/$defs/')) as z.core.JSONSchema.JSONSchema,
  )
}

/** Asks, and says what the document denies of the answer; nothing if it is as described. */
async function untrue(method: string, path: string, operation: Operation, body?: unknown): Promise<string[]> {
  const { status, headers, bytes } = await strata.request(method.toUpperCase(), path, body)
  const described = operation.responses[String(status)]
  const type = headers['content-type']?.split(';')[0]
  const content = described?.content ?? {}
  const types = Object.keys(content)
  const wrong = (what: string): string[] => [`${method} ${path.slice(0, 80)}: ${status} ${what}`]
  if (!described || status >= 500) return wrong(type ?? '')
  if (status >= 400 && status !== 431 && type !== 'application/problem+json') return wrong(type ?? '')
  if (types.length > 0 && type !== undefined && !types.includes(type)) return wrong(`${type}, not ${types.join(', ')}`)
  const schema = type?.endsWith('json') ? content[type]?.schema : undefined
  const error = schema && checkOf(schema).safeParse(JSON.parse(bytes.toString())).error
  return error ? wrong(z.prettifyError(error)) : []
}

it('what is wrong is answered with a status, a type and a form that are described, and is no fault of ours', async () => {
  const wrong: string[] = []
  const long = 'a'.repeat(200_000)
  for (const [path, operations] of Object.entries(document.paths))
    for (const [method, operation] of Object.entries(operations)) {
      const queries = (operation.parameters ?? []).filter((one) => one.in === 'query').map(({ name }) => name)
      const known = path.replace(/\{\w+\}/, '00000000-0000-4000-8000-000000000000')
      const odd = path.replace(/\{\w+\}/, encodeURIComponent('A b/€'))
      wrong.push(
        ...(await untrue(method, known, operation)),
        ...(await untrue(method, odd, operation)),
        ...(await untrue(method, `${known}?${queries.map((name) => `${name}=-%00`).join('&')}`, operation)),
        ...(await untrue(method, known, operation, { none: [1] })),
        ...(await untrue(method, known, operation, [])),
        ...(await untrue(method, `${known}?x=${long}`, operation)),
      )
    }
  expect(wrong).toEqual([])
})

it('what is shown of images, containers, jobs, nodes and disks is as described', async () => {
  await loadBusybox(strata, 'x/y')
  const made = await strata.request('POST', '/v1/containers', { image: 'x/y', name: 'c', command: ['echo', 'hi'] })
  const { id } = made.json<ContainerView>()
  await strata.request('POST', `/v1/containers/${id}/wait`)
  const [job] = (await strata.request('GET', '/v1/jobs')).json<JobList>().jobs
  const [node] = (await strata.request('GET', '/v1/nodes')).json<NodeList>().nodes
  const names: readonly (readonly [RegExp, string])[] = [
    [/\{ref\}/, 'x%2Fy'],
    [/\{name\}/, 'x%2Fy'],
    [/(?<=containers\/)\{id\}/, id],
    [/(?<=jobs\/)\{id\}/, job!.id],
    [/(?<=nodes\/)\{id\}/, node!.id],
  ]
  const queries: Readonly<Record<string, string>> = {
    '/v1/images/{ref}/file': '?path=/bin/busybox',
    '/v1/images/{ref}/files': '?path=/bin',
    '/v1/images/{ref}/diff': '?layer=0',
    '/v1/archive': '?image=x/y',
    '/v1/containers': '?all=true',
  }
  const wrong: string[] = []
  for (const [path, { get: operation }] of Object.entries(document.paths)) {
    if (!operation) continue
    const real = names.reduce((text, [hole, name]) => text.replace(hole, name), path) + (queries[path] ?? '')
    wrong.push(...(await untrue('get', real, operation)))
    const { status } = await strata.request('GET', real)
    if (status !== 200) wrong.push(`get ${real}: ${status}`)
  }
  const of = (path: string): Operation => document.paths[path]!['post']!
  wrong.push(
    ...(await untrue('post', '/v1/gc', of('/v1/gc'), { dryRun: true })),
    ...(await untrue('post', `/v1/containers/${id}/start`, of('/v1/containers/{id}/start'))),
    ...(await untrue('post', `/v1/containers/${id}/wait`, of('/v1/containers/{id}/wait'))),
    ...(await untrue('post', '/v1/images/x%2Fy/tag', of('/v1/images/{ref}/tag'), { name: 'x/z' })),
    ...(await untrue('post', '/v1/images/x%2Fy/mount', of('/v1/images/{ref}/mount'))),
    ...(await untrue('post', '/v1/containers', of('/v1/containers'), { image: 'x/y', command: ['true'] })),
    ...(await untrue('post', '/v1/containers/prune', of('/v1/containers/prune'), {})),
  )
  await strata.request('DELETE', '/v1/images/x%2Fy/mount')
  expect(wrong).toEqual([])
})
