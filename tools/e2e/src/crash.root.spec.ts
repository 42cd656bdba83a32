import { randomInt, randomUUID } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { createServer, type AddressInfo, type Server } from 'node:net'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { pidStartTime } from '@strata/linux'
import { loadBusybox } from './testing/busybox-image.js'
import { leftOnNode, StrataUnderTest, until } from './testing/strata.js'

/**
 * At random moments. Each step of a launch is killed for itself in tools/faults
 * (steps.root.spec.ts); here many launches are on their way at once. The soak kills for longer.
 */
const KILLS = 5
const EACH = 10
const RUNTIME = ['runtime'] as const
const OTHERS = ['gateway', 'ingest', 'extractor', 'storage'] as const

interface Accepted {
  readonly id: string
  readonly job: string
  readonly token: string
}

let strata: StrataUnderTest
let listener: Server
const heard = new Map<string, number>()
beforeAll(async () => {
  listener = createServer((connection) => {
    let text = ''
    connection.on('data', (piece) => {
      text += piece.toString()
      if (!text.endsWith('\n')) return
      heard.set(text.trim(), (heard.get(text.trim()) ?? 0) + 1)
      connection.end()
    })
    connection.on('error', () => undefined)
  })
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve))
  strata = await StrataUnderTest.start({ groups: [OTHERS, RUNTIME] })
  await loadBusybox(strata, 't/box')
})
afterAll(async () => {
  listener.close()
  await strata.dispose()
})

async function launch(): Promise<Accepted | undefined> {
  const [job, token] = [randomUUID(), randomUUID()]
  const { port } = listener.address() as AddressInfo
  const answer = await strata.request('POST', `/v1/containers?wait=false&job=${job}`, {
    image: 't/box',
    network: 'host',
    command: ['sh', '-c', 'echo $TOKEN | nc 127.0.0.1 $PORT'],
    env: [`TOKEN=${token}`, `PORT=${port}`],
  })
  return answer.status === 202 ? { id: answer.json<{ id: string }>().id, job, token } : undefined
}

it(`a runtime that is killed ${KILLS} times starts each container once`, async () => {
  const runners = await Promise.all(
    Array.from({ length: 3 }, async () => {
      const answer = await strata.request('POST', '/v1/containers', {
        image: 't/box',
        command: ['sh', '-c', 'trap "echo end; exit 6" TERM; while :; do usleep 10000; done'],
      })
      const { id, pid } = answer.json<{ id: string; pid: number }>()
      return { id, pid, since: pidStartTime(pid) }
    }),
  )

  const accepted: Accepted[] = []
  for (let kill = 0; kill < KILLS; kill++) {
    const before = heard.size
    const some = randomInt(1, EACH)
    // Some are on their way, some not yet taken, some done.
    const batch = Promise.all(Array.from({ length: EACH }, launch))
    await until(() => heard.size >= before + some, `${some} more reports`)
    await strata.stop('SIGKILL', 'runtime')
    accepted.push(...(await batch).filter((one) => one !== undefined))
    await strata.startGroup(RUNTIME)
  }
  expect(accepted.length).toBe(KILLS * EACH)

  const states = new Map<string, { state: string; exitCode?: number; reason?: string }>()
  await until(
    async () => {
      states.clear()
      for (const container of await strata.containers()) states.set(container.id, container)
      return accepted.every(({ id }) => states.get(id)?.state === 'exited')
    },
    'every container has ended',
    120,
  )
  for (const { job } of accepted)
    await until(
      async () =>
        ['completed', 'failed'].includes(
          (await strata.request('GET', `/v1/jobs/${job}`)).json<{ state: string }>().state,
        ),
      'its job has ended',
      60,
    )

  const interrupted = accepted.filter(({ id }) => states.get(id)?.exitCode === 125)
  console.log(
    `${accepted.length} containers, ${KILLS} kills: ${interrupted.length} starts interrupted, ${interrupted.filter(({ token }) => heard.has(token)).length} of them heard`,
  )
  for (const { id, token } of accepted) {
    const end = states.get(id)
    if (end?.exitCode === 125)
      expect({ times: Math.min(heard.get(token) ?? 0, 1), reason: end.reason }).toEqual({
        times: heard.get(token) ?? 0,
        reason: 'start interrupted',
      })
    else expect({ end, times: heard.get(token) }).toMatchObject({ end: { exitCode: 0 }, times: 1 })
  }
  expect(interrupted.length).toBeLessThan(accepted.length / 50)

  for (const { id, pid, since } of runners) {
    expect((await strata.request('GET', `/v1/containers/${id}`)).json()).toMatchObject({ state: 'running', pid })
    expect(pidStartTime(pid)).toBe(since)
    await strata.request('POST', `/v1/containers/${id}/stop`, {})
    expect((await strata.request('POST', `/v1/containers/${id}/wait`)).json()).toEqual({ exitCode: 6 })
    expect((await strata.request('GET', `/v1/containers/${id}/logs?stream=stdout`)).bytes.toString()).toBe('end\n')
  }
  for (const { id } of await strata.containers())
    expect((await strata.request('DELETE', `/v1/containers/${id}`)).status).toBe(204)
  expect(leftOnNode(strata.node)).toEqual([])
}, 600_000)

it('a launch that is taken back while no node is there leaves nothing when one comes', async () => {
  await strata.stop('SIGKILL', 'runtime')
  const job = randomUUID()
  expect(
    (await strata.request('POST', `/v1/containers?wait=false&job=${job}`, { image: 't/box', name: 'waiting' })).status,
  ).toBe(202)
  expect((await strata.request('DELETE', `/v1/jobs/${job}`)).status).toBeLessThan(300)
  expect((await strata.request('GET', `/v1/jobs/${job}`)).json()).toMatchObject({ state: 'cancelled' })
  expect((await strata.request('POST', '/v1/containers', { image: 't/box', name: 'waiting' })).status).toBe(409)
  await strata.startGroup(RUNTIME)
  await until(
    async () => (await strata.cli(['run', '--rm', '--name', 'waiting', 't/box', 'true'])).code === 0,
    'its name is free',
    60,
    500,
  )
  expect(await strata.containers()).toEqual([])
})

describe('a Redis that lost everything', () => {
  const isKnown = async (): Promise<void> => {
    await until(async () => (await strata.containers()).length === 1, 'it is published again')
    // Its extractor says so too, in its own time.
    await strata.ready()
    expect(await strata.containers()).toMatchObject([{ name: 'kept', state: 'running' }])
    expect((await strata.request('POST', '/v1/containers', { image: 't/box', name: 'kept' })).status).toBe(409)
  }

  it('while a node runs, and before it starts: its containers and their names are known again', async () => {
    const { pid } = (
      await strata.request('POST', '/v1/containers', { image: 't/box', name: 'kept', command: ['sleep', '1000'] })
    ).json<{ pid: number }>()
    const redis = new Redis({ path: strata.redisSocket })
    await redis.flushall()
    redis.disconnect()
    // Whether its node has told of it again by now, or not: it is in use.
    expect([409, 503]).toContain((await strata.request('DELETE', '/v1/images/t%2Fbox')).status)
    expect((await strata.images()).flatMap(({ names }) => names)).toContain('t/box:latest')
    await isKnown()

    await strata.stop()
    await rm(join(strata.data, 'redis', 'appendonlydir'), { recursive: true })
    await strata.startProcesses([OTHERS, RUNTIME])
    await isKnown()
    expect(await strata.containers()).toMatchObject([{ pid }])
    expect((await strata.request('DELETE', '/v1/containers/kept?force')).status).toBe(204)
    expect((await strata.cli(['run', '--rm', '--name', 'kept', 't/box', 'true'])).code).toBe(0)
  })
})
