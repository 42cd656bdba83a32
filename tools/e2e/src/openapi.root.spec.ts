import { afterAll, beforeAll, expect, it } from 'vitest'
import { StrataUnderTest } from './testing/strata.js'

/*
 * What the description of the API says of its answers is true. In short: requests of every route
 * that are wrong in each way, and what comes back against the document. In full, as a command:
 * CONTRIBUTING.md, schemathesis.
 */

interface Operation {
  readonly parameters?: readonly { readonly name: string; readonly in: string }[]
  readonly responses: Readonly<Record<string, { readonly content?: Readonly<Record<string, unknown>> }>>
}
interface Document {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>
}

let strata: StrataUnderTest
beforeAll(async () => {
  strata = await StrataUnderTest.start()
})
afterAll(async () => {
  await strata.dispose()
})

it('every answer has a status and a type that its description has, and none is a fault of ours', async () => {
  const { paths } = (await strata.request('GET', '/docs/openapi.json')).json<Document>()
  const wrong: string[] = []
  const ask = async (method: string, path: string, operation: Operation, body?: unknown): Promise<void> => {
    const { status, headers } = await strata.request(method.toUpperCase(), path, body)
    const described = operation.responses[String(status)]
    const type = headers['content-type']?.split(';')[0]
    const types = Object.keys(described?.content ?? {})
    if (!described || status >= 500 || (status >= 400 && status !== 431 && type !== 'application/problem+json'))
      wrong.push(`${method} ${path.slice(0, 80)}: ${status} ${type ?? ''}`)
    else if (types.length > 0 && type !== undefined && !types.includes(type))
      wrong.push(`${method} ${path.slice(0, 80)}: ${status} ${type}, not ${types.join(', ')}`)
  }
  const long = 'a'.repeat(200_000)
  for (const [path, operations] of Object.entries(paths))
    for (const [method, operation] of Object.entries(operations)) {
      const queries = (operation.parameters ?? []).filter((one) => one.in === 'query').map(({ name }) => name)
      const known = path.replace(/\{\w+\}/, '00000000-0000-4000-8000-000000000000')
      const odd = path.replace(/\{\w+\}/, encodeURIComponent('A b/€'))
      await ask(method, known, operation)
      await ask(method, odd, operation)
      await ask(method, `${known}?${queries.map((name) => `${name}=-%00`).join('&')}`, operation)
      await ask(method, known, operation, { none: [1] })
      await ask(method, known, operation, [])
      await ask(method, `${known}?x=${long}`, operation)
    }
  expect(wrong).toEqual([])
})
