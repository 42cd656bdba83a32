import { randomUUID } from 'node:crypto'
import { World } from '@strata/containers/testing'
import { StrataError } from '@strata/base'
import { QueueClient, QUEUES, type LaunchSpec, type NodeMembership } from '@strata/queue'
import { TestRedis } from '@strata/queue/testing'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import type { ImageRoots } from './image-roots.js'
import { LaunchFailures } from './launch-failures.js'
import { NodeJobs } from './node-jobs.js'

/** Containers under runc, jobs in a Redis; roots that are there, on a node that has its place. */
const NODE = 'n'
const SLOTS = 2
const never = new AbortController().signal
let redis: TestRedis
let world: World
let queue: QueueClient
beforeAll(async () => {
  redis = await TestRedis.start()
  world = await World.make()
  queue = await QueueClient.forWork(redis.url)
  const roots: Pick<ImageRoots, keyof ImageRoots> = {
    missing: () => Promise.resolve([]),
    assemble: ({ id }) => Promise.resolve(roots.chainId({ id, digest: id, layers: [] })),
    isAssembled: () => Promise.resolve(true),
    release: () => Promise.resolve(),
    chainId: ({ id }) => id as never,
  }
  const jobs = new NodeJobs(
    NODE,
    queue,
    roots as ImageRoots,
    world.containers,
    undefined as never,
    undefined as never,
    undefined as never,
    undefined as never,
    new LaunchFailures(),
    { mayWork: () => Promise.resolve(true) } as NodeMembership,
    () => Promise.resolve(),
  )
  queue.serve({ kind: 'runtime.node', queue: QUEUES.runtimeOn(NODE), handlers: jobs.own, concurrency: SLOTS })
})
afterAll(async () => {
  await queue.close()
  await redis.remove()
  expect(await world.end()).toEqual([])
})

async function start(container: string, number: number): Promise<string> {
  const root = randomUUID()
  await queue.journal.create(root, 'start', 'waiting', { container })
  const data = { root, container, number, attach: false }
  await queue.producer.add({ name: 'start', queue: QUEUES.runtimeOn(NODE), id: root, data })
  return root
}
const end = (root: string) => queue.journal.end(root, never)

/** The job that creates or launches a container which is on this node. */
async function launch(container: string, root: string, { start }: { start: boolean }): Promise<void> {
  const { id } = world.containers.get(container).image
  const spec: LaunchSpec = {
    container,
    name: 'x',
    imageName: 'x',
    image: { id, digest: id, layers: [] },
    sealed: '',
    network: 'none',
    autoRemove: false,
    attach: false,
    start,
  }
  await queue.producer.add({ name: 'launch', queue: QUEUES.runtimeOn(NODE), id: root, data: { root, launch: spec } })
}

describe('a container whose end takes long', () => {
  /** Its disk is busy from here on, until the answer is called. */
  async function withSlowEnd(): Promise<{ container: string; end: () => void }> {
    const container = await world.create(['true'])
    const { promise, resolve } = Promise.withResolvers<undefined>()
    const { roots } = world.options
    const unmount = roots.unmount.bind(roots)
    const spy = vi.spyOn(roots, 'unmount').mockImplementation(async (one) => {
      if (one.id === container) await promise
      await unmount(one)
    })
    const first = await start(container, 1)
    expect(await end(first)).toMatchObject({ state: 'completed' })
    await world.containers.wait(container)
    return {
      container,
      end: () => {
        spy.mockRestore()
        resolve(undefined)
      },
    }
  }

  it('takes no slot for its next starts, each of which can be cancelled', async () => {
    const slow = await withSlowEnd()
    try {
      const starts = await Promise.all(Array.from({ length: SLOTS * 2 }, () => start(slow.container, 2)))
      const other = await world.create(['true'])
      expect(await end(await start(other, 1))).toMatchObject({ state: 'completed' })
      const [first = '', ...others] = starts
      await queue.journal.cancel(first, () => Promise.resolve())
      expect(await end(first)).toMatchObject({ state: 'cancelled' })
      slow.end()
      for (const one of others) expect(await end(one)).toMatchObject({ state: 'completed' })
      expect(world.containers.get(slow.container).starts).toBe(2)
      await world.containers.wait(slow.container)
      for (const id of [slow.container, other]) await world.containers.remove(id)
    } finally {
      slow.end()
    }
  })
})

describe('a job whose container has come further than its request', () => {
  it('a creation that was done is done, also if it is cancelled before it is said', async () => {
    const [container, root] = [await world.claim(['true'], {}, { startedApart: true, job: 'j' }), randomUUID()]
    await world.containers.ready(container, 'j')
    await queue.journal.create(root, 'launch', 'waiting', { container })
    await queue.journal.update(root, { state: 'active' })
    await queue.journal.cancel(root, () => Promise.resolve())
    await launch(container, root, { start: false })
    expect(await end(root)).toMatchObject({ state: 'completed', result: { container } })
    expect(world.containers.get(container).state).toEqual({ status: 'created' })
    await world.containers.remove(container)
  })

  it('a launch that is cancelled late takes no container away that another request starts', async () => {
    const root = randomUUID()
    const container = await world.start(['true'], {}, { job: root })
    await world.containers.wait(container)
    // The other request is about to start it; its number is on disk, and its process does not run.
    const lost = new Error('lost')
    const again = { number: 2, job: 'another', attached: false }
    const assertOwned = (): Promise<void> => Promise.reject(lost)
    await expect(world.containers.launch(container, { start: again, assertOwned })).rejects.toBe(lost)
    expect(world.containers.get(container)).toMatchObject({ starts: 2, state: { status: 'created' } })
    await queue.journal.create(root, 'launch', 'waiting', { container })
    await queue.journal.update(root, { state: 'active' })
    await queue.journal.cancel(root, () => Promise.resolve())
    await launch(container, root, { start: true })
    expect(await end(root)).toMatchObject({ state: 'completed' })
    expect(world.containers.get(container).job).toBe('another')
    await world.containers.giveUp(container, new StrataError('cancelled', 'over'), 'another')
    await world.containers.remove(container)
  })
})

it('a container that is removed at its end goes at once if its start fails', async () => {
  const container = await world.create(['/no/such/program'], { autoRemove: true })
  expect(await end(await start(container, 1))).toMatchObject({ error: { code: 'command_not_found' } })
  expect(() => world.containers.get(container)).toThrow('there is no container')
})

it('a start or launch that failed says why, also if what it left cannot be taken away', async () => {
  const inUse = new StrataError('in_use', 'du works in the root')
  const container = await world.create(['/no/such/program'], { autoRemove: true })
  const removal = vi.spyOn(world.containers, 'remove').mockRejectedValue(inUse)
  const givingUp = vi.spyOn(world.containers, 'giveUp').mockRejectedValue(inUse)
  try {
    expect(await end(await start(container, 1))).toMatchObject({ error: { code: 'command_not_found' } })
    const root = randomUUID()
    const other = await world.claim(['/no/such/program'], {}, { job: root })
    await queue.journal.create(root, 'launch', 'waiting', { container: other })
    await launch(other, root, { start: true })
    expect(await end(root)).toMatchObject({ error: { code: 'command_not_found' } })
    expect(givingUp).toHaveBeenCalledTimes(2)
    expect(removal).toHaveBeenCalled()
  } finally {
    removal.mockRestore()
    givingUp.mockRestore()
  }
})

it('a start that was put back, and is cancelled, is cancelled', async () => {
  const container = await world.claim(['true'], {}, { job: 'launch' })
  const waiting = await start(container, 1)
  const queued = queue.producer.queue(QUEUES.runtimeOn(NODE))
  await expect.poll(async () => (await queued.getJob(waiting))?.getState()).toBe('delayed')
  await queue.journal.update(waiting, { state: 'active' })
  await queue.journal.cancel(waiting, () => Promise.resolve())
  expect(await end(waiting)).toMatchObject({ state: 'cancelled' })
  await world.containers.remove(container)
})

it.each([
  ['at its beginning', 1],
  ['directly before its process', 2],
])('a start goes on when Redis has refused to answer it %s', async (_when, look) => {
  const container = await world.create(['true'])
  const asks = queue.journal.assertUnderWay.bind(queue.journal)
  let looks = 0
  const spy = vi.spyOn(queue.journal, 'assertUnderWay').mockImplementation(async (...what) => {
    if (++looks === look) throw new StrataError('queue_unavailable', 'MISCONF')
    await asks(...what)
  })
  try {
    expect(await end(await start(container, 1))).toMatchObject({ state: 'completed' })
    expect([world.containers.get(container).starts, looks > look]).toEqual([1, true])
  } finally {
    spy.mockRestore()
  }
  await world.containers.wait(container)
  await world.containers.remove(container)
})
