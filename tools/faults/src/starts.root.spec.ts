import { randomUUID } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { ContainerView } from '@strata/api'
import { until, type Answer } from '@strata/e2e/testing'
import { mountTable } from '@strata/linux'
import { QueueClient, QUEUES } from '@strata/queue'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { archiveOf } from './testing/images.js'
import { World } from './testing/world.js'

/** What was asked for behind a start counts, whatever the start waits for. */
describe('a start that', { timeout: 180_000 }, () => {
  let world: World
  beforeAll(async () => {
    world = await World.start('folder')
    expect((await world.load(await archiveOf(['t/base']), randomUUID())).status).toBe(201)
  })
  afterAll(async () => {
    await world.dispose()
  })

  const ask = (path: string, body?: object): Promise<Answer> =>
    world.strata.request('POST', `/v1/containers${path}`, body, { signal: AbortSignal.timeout(30_000) })
  const jobOf = async (id: string): Promise<string> => (await world.job(id)).state
  const create = async (name: string): Promise<string> => {
    const { token, body } = world.witness.container('t/base')
    expect((await ask('?start=false', { ...body, name })).status).toBe(201)
    return token
  }
  /** As after a loss of power which damaged both. */
  async function loseRootsAndLayers(): Promise<void> {
    const { folder } = world.strata.node
    for (const service of ['extractor', 'runtime']) await world.strata.stop('SIGTERM', service)
    for (const place of ['layers', 'snapshots']) await rm(join(folder, place), { recursive: true, force: true })
    for (const service of ['extractor', 'runtime'] as const) await world.strata.startGroup([service])
    await world.strata.ready()
  }
  /** The extractor dies in the middle of a layer of what is asked for, and stays away. */
  async function withoutExtractor(act: () => Promise<unknown>): Promise<void> {
    world.orders.give('extract.fetched', 'SIGKILL')
    await act()
    await world.orders.taken('extract.fetched')
    await world.strata.stop('SIGKILL', 'extractor')
  }

  describe('waits in the queue, so that its node does not know of it:', () => {
    let queue: QueueClient
    beforeAll(async () => {
      queue = await QueueClient.forRequests(world.redis.url)
    })
    afterAll(async () => {
      await queue.close()
    })
    /** Until `act` has ended the node takes no job. */
    async function whileNoneIsTaken(act: () => Promise<void>): Promise<void> {
      const jobs = queue.producer.queue(QUEUES.runtimeOn(world.strata.node.id))
      await jobs.pause()
      try {
        await act()
      } finally {
        await jobs.resume()
      }
    }

    it('a stop ends it, and nothing comes up behind the answer', async () => {
      const token = await create('stopped')
      const job = randomUUID()
      await whileNoneIsTaken(async () => {
        expect((await ask(`/stopped/start?wait=false&job=${job}`)).status).toBe(202)
        expect((await ask('/stopped/stop', {})).status).toBe(204)
        expect(await jobOf(job)).toBe('cancelled')
      })
      // The queue goes in order: behind this one the other has been looked at, too.
      const next = await create('next')
      expect((await ask('/next/start')).status).toBe(200)
      await until(() => world.witness.times(next) === 1, 'the next one runs')
      expect(await world.container('stopped')).toMatchObject({ state: 'created', starts: 0 })
      expect(world.witness.times(token)).toBe(0)
      expect((await ask('/stopped/start')).status).toBe(200)
      await world.right('a start that was stopped in the queue')
      expect(world.witness.times(token)).toBe(1)
    })

    it('a wait and a reader that follows are about it, and not about the run before', async () => {
      const command = ['sh', '-c', 'echo ran >> /ran; wc -l < /ran; exit $(wc -l < /ran)']
      expect((await ask('', { image: 't/base', command, name: 'again' })).status).toBe(201)
      expect((await ask('/again/wait')).json()).toEqual({ exitCode: 1 })
      let answers: Promise<Answer>[] = []
      await whileNoneIsTaken(async () => {
        expect((await ask('/again/start?wait=false')).status).toBe(202)
        answers = [ask('/again/wait'), world.strata.request('GET', '/v1/containers/again/logs?follow&stream=stdout')]
        // The queue goes on when they have come: this one comes behind them.
        expect(await world.container('again')).toMatchObject({ state: 'exited', starts: 1 })
      })
      const [waited, read] = await Promise.all(answers)
      expect(waited?.json()).toEqual({ exitCode: 2 })
      expect(read?.bytes.toString()).toBe('1\n2\n')
      // One that is cancelled there leaves the end that the container has.
      const job = randomUUID()
      await whileNoneIsTaken(async () => {
        expect((await ask(`/again/start?wait=false&job=${job}`)).status).toBe(202)
        answers = [ask('/again/wait')]
        expect((await ask('/again/stop', {})).status).toBe(204)
        expect((await answers[0])?.json()).toEqual({ exitCode: 2 })
      })
      await world.right('a start that was waited for in the queue')
    })

    it('a prune leaves its container', async () => {
      const token = await create('needed')
      await whileNoneIsTaken(async () => {
        expect((await ask('/needed/start?wait=false')).status).toBe(202)
        const { containers } = (await ask('/prune', {})).json<{ containers: Pick<ContainerView, 'id'>[] }>()
        expect(containers.map(({ id }) => id)).not.toContain((await world.container('needed'))?.id)
      })
      await until(() => world.witness.times(token) === 1, 'it runs')
      await world.right('a start of which a prune heard first')
    })
  })

  it('runs when its service dies, and its monitor is in the service’s cgroups: the next one moves it', async () => {
    const group = `strata-faults-${process.pid}`
    const folders = mountTable()
      .filter(({ fsType }) => fsType === 'cgroup' || fsType === 'cgroup2')
      .map(({ mountPoint }) => join(mountPoint, group))
    const pidsIn = (folder: string): string => readFileSync(join(folder, 'cgroup.procs'), 'latin1')
    for (const folder of folders) {
      mkdirSync(folder)
      // Of cpuset: a new group takes no process before it has these.
      for (const name of ['cpuset.cpus', 'cpuset.mems'])
        if (existsSync(join(folder, name)) && readFileSync(join(folder, name), 'latin1').trim() === '')
          writeFileSync(join(folder, name), readFileSync(join(folder, '..', name)))
      writeFileSync(join(folder, 'cgroup.procs'), String(world.strata.pid('runtime')))
    }
    try {
      const body = { image: 't/base', command: ['sleep', '1000'], name: 'moved' }
      await world.killAt('runtime', 'launch.started', () => ask('', body))
      // As an engine does with what is left in the group of the service's container.
      for (const folder of folders) {
        await until(() => pidsIn(folder) === '', `nothing is left in ${folder}`)
        rmdirSync(folder)
      }
      await until(async () => (await world.container('moved'))?.state === 'running', 'it is known to run')
      expect((await ask('/moved/stop', { timeout: 0 })).status).toBe(204)
      expect(await world.container('moved')).toMatchObject({ state: 'exited', exitCode: 137 })
      await world.right('a runtime killed behind the start of a process')
    } finally {
      for (const folder of folders.filter((one) => existsSync(one))) {
        for (const pid of pidsIn(folder).split('\n').filter(Boolean)) process.kill(Number(pid), 'SIGKILL')
        await until(() => pidsIn(folder) === '', 'the group is empty')
        rmdirSync(folder)
      }
    }
  })

  it('waits for an extractor that died is ended by a stop at once, and so is a launch by a removal', async () => {
    const token = await create('waits')
    await loseRootsAndLayers()
    const [first, second, launch] = [randomUUID(), randomUUID(), randomUUID()]
    await withoutExtractor(async () => {
      expect((await ask(`/waits/start?wait=false&job=${first}`)).status).toBe(202)
    })
    // Another request of the same start, which has an open connection.
    const other = ask(`/waits/start?job=${second}`)
    await until(async () => (await jobOf(second)) === 'active', 'the other has come as far')
    expect((await ask('/waits/stop', {})).status).toBe(204)
    expect((await other).json()).toMatchObject({ code: 'cancelled' })
    expect([await jobOf(first), await jobOf(second)]).toEqual(['cancelled', 'cancelled'])
    expect(await world.container('waits')).toMatchObject({ state: 'created', starts: 0 })

    await world.strata.startGroup(['extractor'])
    await world.strata.ready()
    await until(
      async () => (await world.checker.problems()).join().includes('never came to run'),
      'nothing else goes on',
    )
    await loseRootsAndLayers()
    let launched: Promise<Answer> | undefined
    await withoutExtractor(async () => {
      launched = ask(`?job=${launch}`, { image: 't/base', command: ['true'], name: 'launched' })
      launched.catch(() => undefined)
      await until(async () => (await world.container('launched')) !== undefined, 'it is claimed')
    })
    expect((await ask('/launched/stop', {})).json()).toMatchObject({ code: 'container_not_running' })
    expect((await world.strata.request('DELETE', '/v1/containers/launched?force')).status).toBe(204)
    expect((await launched)?.json()).toMatchObject({ code: 'cancelled' })

    await world.strata.startGroup(['extractor'])
    await world.strata.ready()
    expect((await ask('/waits/start')).status).toBe(200)
    await until(() => world.witness.times(token) === 1, 'it runs')
    await world.right('an extractor that died under a start and a launch')
    expect(world.witness.times(token)).toBe(1)
  })
})
