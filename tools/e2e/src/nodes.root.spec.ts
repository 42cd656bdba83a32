import { hostname } from 'node:os'
import { join } from 'node:path'
import type { NodeList } from '@strata/api'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { loadBusybox } from './testing/busybox-image.js'
import { leftOnNode, standsStill, StrataUnderTest, until, type Service } from './testing/strata.js'

const NODE: readonly Service[] = ['extractor', 'runtime']
interface View {
  readonly id: string
  readonly node: string
  readonly state: string
}

let strata: StrataUnderTest
const nodeEnvironment = (id: string): Record<string, string> => ({
  STRATA_NODE: `${strata.node.id}-${id}`,
  STRATA_NODE_FOLDER: join(strata.data, `node-${id}`),
  STRATA_RUN_FOLDER: `/run/strata/${strata.node.id}-${id}`,
})
const startNode = (id: string): Promise<void> =>
  strata.startGroup(NODE, false, { name: id, environment: nodeEnvironment(id) })
/** Those that take work: a node is named by /v1/info as soon as its runtime lives. */
const nodes = async (): Promise<string[]> =>
  (await strata.request('GET', '/v1/nodes'))
    .json<NodeList>()
    .nodes.filter(({ state }) => state === 'ready')
    .map(({ id }) => id)
beforeAll(async () => {
  strata = await StrataUnderTest.start({ groups: [['gateway', 'ingest', 'storage', 'extractor', 'runtime']] })
  await startNode('b')
  await until(async () => (await nodes()).length === 2, 'two nodes')
  await loadBusybox(strata, 't/box')
})
afterAll(async () => {
  await strata.dispose()
})

const launch = async (...command: string[]): Promise<View> => {
  const answer = await strata.request('POST', '/v1/containers', { image: 't/box', command })
  expect(answer.status, answer.bytes.toString()).toBe(201)
  return answer.json<View>()
}
const get = async (id: string): Promise<View> => (await strata.request('GET', `/v1/containers/${id}`)).json<View>()
const LOOP = ['sh', '-c', 'trap "echo stopped; exit 4" TERM; echo here; while :; do usleep 10000; done']

it('two nodes on one machine share the work; each container is reached where it is, also when the other node stops', async () => {
  const [first, second] = [strata.node.id, `${strata.node.id}-b`] as [string, string]
  const running: View[] = []
  // Whoever is free takes it: with many at once both do.
  await until(async () => {
    running.push(...(await Promise.all(Array.from({ length: 6 }, () => launch(...LOOP)))))
    return new Set(running.map(({ node }) => node)).size === 2
  }, 'containers on both')
  expect(new Set(running.map(({ node }) => node))).toEqual(new Set([first, second]))

  for (const node of [first, second]) {
    const { id } = running.find((one) => one.node === node)!
    await until(
      async () =>
        (await strata.request('GET', `/v1/containers/${id}/logs?stream=stdout`)).bytes.toString() === 'here\n',
      'its first word',
    )
    const waiting = strata.request('POST', `/v1/containers/${id}/wait`)
    expect((await strata.request('POST', `/v1/containers/${id}/stop`, {})).status).toBe(204)
    expect((await waiting).json()).toEqual({ exitCode: 4 })
    expect((await strata.request('GET', `/v1/containers/${id}/logs?stream=stdout`)).bytes.toString()).toBe(
      'here\nstopped\n',
    )
    expect((await strata.request('DELETE', `/v1/containers/${id}`)).status).toBe(204)
    running.splice(
      running.findIndex((one) => one.id === id),
      1,
    )
  }

  const [onFirst, onSecond] = [
    running.find(({ node }) => node === first)!,
    running.find(({ node }) => node === second) ?? (await onNode(second)),
  ]
  if (!running.includes(onSecond)) running.push(onSecond)
  await strata.stop('SIGTERM', 'b')
  const refused = await strata.request('POST', `/v1/containers/${onSecond.id}/stop`, {})
  expect(refused.status).toBe(503)
  expect(refused.json()).toMatchObject({ code: 'node_unavailable' })
  expect(refused.json<{ detail: string }>().detail).toContain(second)
  expect((await strata.cli(['logs', onSecond.id])).stderr).toContain(second)
  // It is still shown, and the containers of the other go on.
  expect(await get(onSecond.id)).toMatchObject({
    node: second,
    state: 'unknown',
    reason: `the node ${second} does not answer; it was running when last heard of`,
  })
  expect(await get(onFirst.id)).toMatchObject({ node: first, state: 'running' })
  expect((await launch('true')).node).toBe(first)
  expect(await nodes()).toEqual([first])

  await startNode('b')
  await until(async () => (await nodes()).length === 2, 'it is back')
  expect(await get(onSecond.id)).toMatchObject({ node: second, state: 'running' })
  expect((await strata.request('POST', `/v1/containers/${onSecond.id}/stop`, {})).status).toBe(204)
  expect((await strata.request('GET', `/v1/containers/${onSecond.id}/logs?stream=stdout`)).bytes.toString()).toBe(
    'here\nstopped\n',
  )

  for (const { id } of await strata.containers())
    expect((await strata.request('DELETE', `/v1/containers/${id}?force`)).status).toBe(204)
  for (const node of strata.nodes) expect(leftOnNode(node)).toEqual([])
})

it('the containers of both nodes are one list in pages, also when one node is gone', async () => {
  const made = await Promise.all(
    Array.from({ length: 7 }, async () => {
      const answer = await strata.request('POST', '/v1/containers?start=false', { image: 't/box', command: ['true'] })
      return answer.json<View>().id
    }),
  )
  const pages = async (path: string, limit: number): Promise<string[][]> => {
    const found: string[][] = []
    let after = ''
    do {
      const answer = await strata.request('GET', `${path}limit=${limit}${after}`)
      const { next, ...lists } = answer.json<{ next?: string } & Record<string, View[]>>()
      found.push(Object.values(lists).flatMap((items) => items.map(({ id }) => id)))
      expect(found.at(-1)!.length).toBeLessThanOrEqual(limit)
      after = next === undefined ? '' : `&after=${next}`
    } while (after !== '')
    return found
  }
  for (const limit of [1, 3, 1_000])
    expect((await pages('/v1/containers?all&', limit)).flatMap((page) => page.sort())).toEqual(made.sort())
  expect((await strata.cli(['ps', '-a', '-q'])).stdout.toString().split('\n').filter(Boolean).sort()).toEqual(
    made.map((id) => id.slice(0, 12)).sort(),
  )
  const ids = [strata.node.id, `${strata.node.id}-b`]
  expect(await pages('/v1/nodes?', 1)).toEqual(ids.map((id) => [id]))
  expect(await pages('/v1/nodes?', 2)).toEqual([ids])
  const jobs = (await pages('/v1/jobs?', 1_000)).flat()
  expect((await pages('/v1/jobs?', 4)).flat()).toEqual(jobs)
  expect(jobs.length).toBeGreaterThan(made.length)

  await strata.stop('SIGTERM', 'b')
  expect((await pages('/v1/containers?all&', 3)).flatMap((page) => page.sort())).toEqual(made.sort())
  await startNode('b')
  await until(async () => (await nodes()).length === 2, 'it is back')
  for (const id of made) expect((await strata.request('DELETE', `/v1/containers/${id}`)).status).toBe(204)
})

it('two processes cannot be one node', async () => {
  await strata.startGroup(['runtime'], false, { name: 'again', environment: nodeEnvironment('b') })
  await until(() => strata.log.includes('another process serves'), 'it says so')
  await strata.stop('SIGTERM', 'again')
})

it('a second node of the same id is refused, and told where the first is; the first goes on', async () => {
  const first = strata.node
  const kept = await onNode(first.id)
  const twin = {
    STRATA_NODE: first.id,
    STRATA_NODE_FOLDER: join(strata.data, 'node-twin'),
    STRATA_RUN_FOLDER: `${first.run}-twin`,
  }
  await strata.startGroup(NODE, false, { name: 'twin', environment: twin })
  const refused = `strata: a node ${first.id} is already running, on the host ${hostname()}, `
  await until(() => strata.log.includes(refused), 'it is refused')
  await until(() => NODE.every((service) => standsStill(strata.pid(service, 'twin'))), 'both have ended')
  expect((await strata.stop('SIGTERM', 'twin'))[0]).toBe(1)
  expect(await get(kept.id)).toMatchObject({ node: first.id, state: 'running' })
  expect((await strata.containers()).map(({ id }) => id)).toContain(kept.id)
  // It lives: nothing of it was taken for a stranger's because of the same id.
  expect((await strata.request('POST', `/v1/containers/${kept.id}/stop`, {})).status).toBe(204)
  expect((await strata.request('GET', `/v1/containers/${kept.id}/logs?stream=stdout`)).bytes.toString()).toBe(
    'here\nstopped\n',
  )
  expect((await strata.request('DELETE', `/v1/containers/${kept.id}`)).status).toBe(204)
})

it('a node that was killed takes its id back at once', async () => {
  await strata.stop('SIGKILL', 'b')
  await startNode('b')
  // Its registration is still believed: it must not be what keeps it out.
  const running = await onNode(`${strata.node.id}-b`)
  expect((await strata.request('DELETE', `/v1/containers/${running.id}?force`)).status).toBe(204)
})

async function onNode(node: string): Promise<View> {
  let found: View | undefined
  await until(async () => {
    const made = await launch(...LOOP)
    if (made.node === node) found = made
    else await strata.request('DELETE', `/v1/containers/${made.id}?force`)
    return found !== undefined
  }, `a container on ${node}`)
  return found!
}
