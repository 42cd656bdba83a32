import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { loadBusybox } from './testing/busybox-image.js'
import { leftOnNode, StrataUnderTest } from './testing/strata.js'

/**
 * Of each kind: more than are at once, so that each that ends makes room for another.
 * `STRATA_TEST_MANY=200` for figures.
 */
const COUNT = Number(process.env['STRATA_TEST_MANY'] ?? 50)

let strata: StrataUnderTest
beforeAll(async () => {
  strata = await StrataUnderTest.start()
  await loadBusybox(strata, 't/box')
})
afterAll(async () => {
  await strata.dispose()
})

/** Launched, waited for, read, removed. Answers how long the launch took, in milliseconds. */
async function life(): Promise<number> {
  const word = randomUUID()
  const start = performance.now()
  const made = await strata.request('POST', '/v1/containers', { image: 't/box', command: ['echo', word] })
  const took = performance.now() - start
  expect(made.status, made.bytes.toString()).toBe(201)
  const { id } = made.json<{ id: string }>()
  expect((await strata.request('POST', `/v1/containers/${id}/wait`)).json()).toEqual({ exitCode: 0 })
  expect((await strata.request('GET', `/v1/containers/${id}/logs?stream=stdout`)).bytes.toString()).toBe(`${word}\n`)
  expect((await strata.request('DELETE', `/v1/containers/${id}`)).status).toBe(204)
  return took
}

function report(how: string, times: number[], seconds: number): void {
  const sorted = times.sort((a, b) => a - b)
  console.log(
    `${COUNT} containers ${how}: launch p50 ${sorted[COUNT >> 1]?.toFixed(0)} ms, p95 ${sorted[Math.floor(COUNT * 0.95)]?.toFixed(0)} ms; ${(COUNT / seconds).toFixed(1)} a second, launched, read and removed`,
  )
}

async function lives(atOnce: number): Promise<void> {
  const times: number[] = []
  let left = COUNT
  const start = performance.now()
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      while (left-- > 0) times.push(await life())
    }),
  )
  report(atOnce === 1 ? 'one after another' : `${atOnce} at a time`, times, (performance.now() - start) / 1000)
}

it('one after another', async () => {
  await lives(1)
  expect(leftOnNode(strata.node)).toEqual([])
}, 300_000)

it('twenty at a time', async () => {
  await lives(20)
  expect(leftOnNode(strata.node)).toEqual([])
  expect(await strata.containers()).toEqual([])
}, 300_000)
