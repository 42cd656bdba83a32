import { randomUUID } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { ContainerView, JobView, NodeView } from '@strata/api'
import { until, type Answer, type Output, type Service } from '@strata/e2e/testing'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { archiveOf } from './testing/images.js'
import { World } from './testing/world.js'

const NODE: readonly Service[] = ['extractor', 'runtime']
interface Problem {
  readonly code: string
  readonly detail: string
}

/**
 * With patience as short as it can be: a node that died is missed when its registration ends, 15 s
 * after its last word.
 */
describe('a node that is gone', { timeout: 180_000 }, () => {
  let world: World
  let a: string
  /** Another one for each test: what it leaves is forgotten by its id. */
  let b: string
  let tests = 0
  beforeAll(async () => {
    world = await World.start('folder', { STRATA_NODE_LOST_MS: '1000', STRATA_SWEEP_INTERVAL_MS: '500' })
    a = world.strata.node.id
    await load('t/base')
  })
  afterAll(async () => {
    await world.dispose()
  })
  beforeEach(() => {
    b = `${a}-b${++tests}`
  })
  /** One node runs again, and nothing is on it. */
  afterEach(async () => {
    await becomes(a, 'ready')
    for (const { id } of await world.strata.containers())
      expect((await world.strata.request('DELETE', `/v1/containers/${id}?force`)).status).toBe(204)
    await world.strata.stop('SIGTERM', 'b')
    if ((await stateOf(b)) === undefined) return
    await becomes(b, 'gone')
    expect((await world.strata.request('DELETE', `/v1/nodes/${b}`)).status).toBe(204)
  })

  const startB = (): Promise<void> => {
    const environment = {
      STRATA_NODE: b,
      STRATA_NODE_FOLDER: join(world.strata.data, b),
      STRATA_RUN_FOLDER: `/run/strata/${b}`,
    }
    return world.strata.startGroup(NODE, false, { name: 'b', environment })
  }
  const startA = async (): Promise<void> => {
    for (const service of NODE) await world.strata.startGroup([service])
  }
  const loseA = async (): Promise<void> => {
    for (const service of NODE) await world.strata.stop('SIGKILL', service)
  }
  const load = async (name: string): Promise<void> =>
    expect((await world.load(await archiveOf([name]), randomUUID())).status).toBe(201)
  const nodes = async (): Promise<NodeView[]> =>
    (await world.strata.request('GET', '/v1/nodes')).json<{ nodes?: NodeView[] }>().nodes ?? []
  const stateOf = async (id: string): Promise<string | undefined> =>
    (await nodes()).find((node) => node.id === id)?.state
  const becomes = (id: string, state: NodeView['state']): Promise<void> =>
    until(async () => (await stateOf(id)) === state, `${id} is ${state}`)
  const launch = (body: object, query = ''): Promise<Answer> =>
    world.strata.request('POST', `/v1/containers${query}`, body)
  const cli = async (...args: string[]): Promise<Pick<Output, 'code' | 'stderr'> & { stdout: string }> => {
    const { code, stdout, stderr } = await world.strata.cli(args)
    return { code, stdout: stdout.toString(), stderr }
  }
  const isReady = async (): Promise<boolean> => (await world.strata.request('GET', '/v1/health/ready')).status === 200
  /** All launches go to the node that is left. */
  const onlyA = async (): Promise<void> => {
    await world.strata.stop('SIGTERM', 'b')
    await becomes(b, 'gone')
  }

  it('ends its launch with that reason and never starts it elsewhere; removed by force, its name and image are free', async () => {
    await startB()
    await becomes(b, 'ready')
    await onlyA()
    const [{ token, body }, waits] = [world.witness.container('t/base'), world.witness.container('t/base')]
    expect((await launch({ ...waits.body, name: 'waits' }, '?start=false')).status).toBe(201)
    world.orders.give('launch.placed', 'SIGKILL')
    const answer = launch({ ...body, name: 'lost' })
    await world.orders.taken('launch.placed')
    await loseA()
    await startB()
    await becomes(b, 'ready')

    const ended = await answer
    expect([ended.status, ended.json<Problem>().code]).toEqual([503, 'node_unavailable'])
    expect(ended.json<Problem>().detail).toContain(`the node ${a} on the host `)
    expect(ended.json<Problem>().detail).toContain('not started elsewhere')
    const shown = (await world.strata.request('GET', '/v1/containers')).json<{ containers: ContainerView[] }>()
      .containers
    expect(shown).toMatchObject([
      {
        name: 'lost',
        node: a,
        state: 'unknown',
        reason: `the node ${a} does not answer; it was created when last heard of`,
      },
    ])
    // What only waits runs nowhere.
    expect(await world.container('waits')).toMatchObject({ node: a, state: 'created' })
    expect((await cli('ps')).stdout).toContain('Unknown: ')
    expect((await cli('node', 'ls')).stdout).toMatch(
      new RegExp(`^${a} +\\S+ +Gone \\(last seen .* ago\\) +\\S+ +runc version \\S+ +2$`, 'm'),
    )

    // What may be running there is not forgotten by a slip, and what lives not at all.
    const stays = await cli('node', 'rm', a)
    expect([stays.code, stays.stderr]).toEqual([
      1,
      expect.stringMatching(/had 1 containers that may still be running there \(lost\)/),
    ])
    for (const force of [[], ['--force']]) {
      const refused = await cli('node', 'rm', ...force, b)
      expect([refused.code, refused.stderr]).toEqual([
        1,
        expect.stringContaining(`the node ${b} is running on the host `),
      ])
    }
    expect((await cli('node', 'rm', 'no-such')).stderr).toContain('no such node: no-such')
    expect((await world.strata.request('DELETE', '/v1/containers/lost?force')).json<Problem>().detail).toContain(
      `strata node rm ${a}`,
    )
    expect((await launch({ image: 't/base', name: 'lost', command: ['true'] })).json<Problem>().code).toBe(
      'container_exists',
    )
    expect(await cli('node', 'rm', '--force', a)).toEqual({ code: 0, stdout: `${a}\n`, stderr: '' })
    expect((await nodes()).map(({ id }) => id)).toEqual([b])
    expect(await world.strata.containers()).toEqual([])
    expect((await launch({ image: 't/base', name: 'lost', command: ['true'] })).status).toBe(201)

    // Redis may forget everything: that the node was removed is no copy of anything.
    await world.redis.kill()
    await rm(join(world.redis.folder, 'appendonlydir'), { recursive: true })
    await world.redis.start()
    await becomes(b, 'ready')
    await world.strata.startGroup(['runtime'])
    await until(() => world.strata.log.includes(`strata: the node ${a} was removed (`), 'it is refused')
    expect((await world.strata.stop('SIGTERM', 'runtime'))[0]).toBe(1)
    expect((await nodes()).map(({ id }) => id)).toEqual([b])

    for (const service of NODE)
      await world.strata.startGroup([service], false, { name: service, environment: { STRATA_REJOIN: 'true' } })
    await becomes(a, 'ready')
    const ofA = (): Promise<ContainerView | undefined> => world.container(shown[0]?.id ?? '')
    await until(async () => (await ofA())?.state === 'exited', 'it shows its container again')
    const back = await ofA()
    expect(back).toMatchObject({ name: back?.id.slice(0, 12), state: 'exited', exitCode: 125 })
    expect(world.witness.times(token)).toBe(0)
    // What only waits can still be started.
    expect(await world.container('waits')).toMatchObject({ node: a, state: 'created' })
    expect((await world.strata.request('POST', '/v1/containers/waits/start')).status).toBe(200)
    await until(() => world.witness.times(waits.token) === 1, 'it runs')
    // Rejoined once, it is a node like any other.
    for (const service of NODE) await world.strata.stop('SIGTERM', service)
    await startA()
    await becomes(a, 'ready')
  })

  it('with an extractor that is gone takes no requests; loads and launches go on elsewhere, or end with that reason', async () => {
    await startB()
    await becomes(b, 'ready')
    await world.strata.stop('SIGKILL', 'extractor')
    // Also those that this node takes before anybody misses its extractor.
    const early = Array.from(
      { length: 6 },
      async (_, index) => (await world.load(await archiveOf([`t/early:${index}`]), randomUUID())).status,
    )
    expect(await Promise.all(early)).toEqual(early.map(() => 201))
    await becomes(a, 'no_extractor')
    expect((await cli('node', 'ls')).stdout).toMatch(new RegExp(`^${a} +\\S+ +No extractor `, 'm'))
    expect(await isReady()).toBe(true)
    const late = await Promise.all(Array.from({ length: 4 }, () => launch({ image: 't/base', command: ['true'] })))
    expect(late.map((answer) => answer.json<ContainerView>().node)).toEqual(late.map(() => b))

    for (const { id } of await world.strata.containers())
      expect((await world.strata.request('DELETE', `/v1/containers/${id}?force`)).status).toBe(204)
    await world.strata.stop('SIGTERM', 'b')
    await until(async () => !(await isReady()), 'no node is ready')
    const refused = await launch({ image: 't/base', command: ['true'] })
    expect([refused.status, refused.json<Problem>().detail]).toEqual([
      503,
      expect.stringContaining(`no node is ready (${a} has no extractor)`),
    ])
    await world.strata.startGroup(['extractor'])
    await until(isReady, 'it is back')
    expect((await launch({ image: 't/base', command: ['true'] })).status).toBe(201)
  })

  it('and was the only one: what waits for a node ends and says so, what comes then is refused at once', async () => {
    await loseA()
    // Its registration is still believed.
    const waiting = launch({ image: 't/base', command: ['true'], name: 'first' })
    const loading = world.load(await archiveOf(['t/other']), randomUUID())
    const [launched, loaded] = [await waiting, await loading]
    for (const answer of [launched, loaded])
      expect([answer.status, answer.json<Problem>()]).toEqual([
        503,
        expect.objectContaining({ code: 'node_unavailable', detail: 'no node is running: start one with `strata up`' }),
      ])
    expect((await launch({ image: 't/base', command: ['true'] })).json<Problem>().detail).toBe(
      'no node is running: start one with `strata up`',
    )
    await startA()
    await world.strata.ready()
    // Its name is free, and the load can be asked for again.
    expect((await launch({ image: 't/base', command: ['true'], name: 'first' })).status).toBe(201)
    await load('t/other')
    await world.right('a node that was the only one and gone for a while')
  })

  it('with a container that was created: its start ends with that reason, and can be asked for again when it is back', async () => {
    const { token, body } = world.witness.container('t/base')
    expect((await launch({ ...body, name: 'waits' }, '?start=false')).status).toBe(201)
    const start = (query = '') => world.strata.request('POST', `/v1/containers/waits/start${query}`)
    // Redis may forget everything between the two.
    await world.redis.kill()
    await rm(join(world.redis.folder, 'appendonlydir'), { recursive: true })
    await world.redis.start()
    await until(async () => (await world.container('waits'))?.state === 'created', 'its node shows it again')

    const job = randomUUID()
    world.orders.give('launch.created', 'SIGSTOP')
    const answer = start(`?job=${job}`)
    const pid = await world.orders.taken('launch.created')
    const ended = await answer
    expect([ended.status, ended.json<Problem>()]).toEqual([
      503,
      expect.objectContaining({
        code: 'node_unavailable',
        detail: expect.stringContaining('not started elsewhere') as string,
      }),
    ])
    expect(await world.container('waits')).toMatchObject({ state: 'unknown' })
    expect((await start()).json<Problem>().code).toBe('node_unavailable')
    process.kill(pid, 'SIGCONT')
    await becomes(a, 'ready')
    await until(async () => (await world.container('waits'))?.state === 'created', 'it is what it was')
    expect((await launch({ image: 't/base', name: 'waits' })).json<Problem>().code).toBe('container_exists')
    expect([world.witness.times(token), (await world.job(job)).state]).toEqual([0, 'failed'])
    expect((await start()).status).toBe(200)
    await until(() => world.witness.times(token) === 1, 'it runs')
    await world.right('a node that came back with a container that was created')
  })

  // In the middle of its job, and with the container created and one call away from running.
  it.each(['launch.placed', 'launch.created'] as const)(
    'and comes back at %s: a launch that was ended meanwhile does not run',
    async (at) => {
      const { token, body } = world.witness.container('t/base')
      world.orders.give(at, 'SIGSTOP')
      const job = randomUUID()
      const answer = launch({ ...body, name: 'late' }, `?job=${job}`)
      const pid = await world.orders.taken(at)
      expect([(await answer).status, (await world.job(job)).error?.code]).toEqual([503, 'node_unavailable'])
      process.kill(pid, 'SIGCONT')
      await becomes(a, 'ready')
      const { containers } = (await world.strata.request('GET', '/v1/containers?all')).json<{
        containers: ContainerView[]
      }>()
      await until(
        async () => (await world.container(containers[0]?.id ?? ''))?.state === 'exited',
        'its container says so',
      )
      expect(world.witness.times(token)).toBe(0)
      // The node works on.
      const again = world.witness.container('t/base')
      expect((await launch(again.body)).status).toBe(201)
      await until(() => world.witness.times(again.token) === 1, 'it runs')
      await world.right('a node that came back')
      expect((await world.strata.request('GET', `/v1/jobs/${job}`)).json<JobView>().state).toBe('failed')
    },
  )
})
