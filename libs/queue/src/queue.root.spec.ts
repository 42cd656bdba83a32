import { randomUUID } from 'node:crypto'
import { connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { ERROR_TITLES, StrataError } from '@strata/base'
import { parseDiffId, parseDigest } from '@strata/oci'
import { Job } from 'bullmq'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import {
  Journal,
  JobWorker,
  LostRun,
  Producer,
  QueueClient,
  QUEUES,
  Signals,
  producerConnection,
  whenReady,
  workerConnection,
  type Handlers,
  type JobContext,
  type LayerRef,
  type QueueKind,
} from './index.js'
import { BULL_PREFIX, KEY } from './keys.js'
import { TestRedis } from './testing/index.js'

let redis: TestRedis
const open: { close(): Promise<void> | void }[] = []
beforeAll(async () => {
  redis = await TestRedis.start()
})
afterEach(async () => {
  vi.restoreAllMocks()
  for (const one of open.splice(0).reverse()) await one.close()
})
afterAll(async () => {
  await redis.remove()
})

async function client() {
  const fast = producerConnection(redis.url)
  await whenReady(fast)
  const signals = new Signals(redis.url)
  const journal = new Journal(fast, signals)
  const producer = new Producer(fast)
  open.push({ close: () => fast.disconnect() }, signals, producer)
  return { journal, producer, signals, fast }
}

async function worker<K extends QueueKind>(
  kind: K,
  queue: string,
  handlers: Handlers<K>,
  concurrency = 1,
  onError?: (error: Error) => void,
) {
  const slow = workerConnection(redis.url)
  const { journal, signals } = await client()
  const made = new JobWorker(slow, journal, signals, {
    kind,
    queue,
    handlers,
    concurrency,
    ...(onError ? { onError } : {}),
  })
  open.push({ close: () => slow.disconnect() }, made)
  return made
}

const layer = (n: number): LayerRef => {
  const digest = `sha256:${String(n).padStart(64, '0')}`
  return { digest: parseDigest(digest), diffId: parseDiffId(digest), size: n }
}
const children = (root: string, count: number) =>
  Array.from({ length: count }, (_, n) => ({
    name: 'extract' as const,
    queue: QUEUES.extract,
    id: `${root}-x${n}`,
    data: { root, layer: layer(n) },
  }))
/** A worker handles every job of its queue. */
const noImport = { import: () => Promise.resolve({ images: [] }) }
const never = new AbortController().signal
const aborted = (signal: AbortSignal) =>
  new Promise<void>((resolve) => (signal.aborted ? resolve() : signal.addEventListener('abort', () => resolve())))

it('a release that would start what a job only creates does not come to the jobs of this one', async () => {
  const { fast } = await client()
  const queue = await QueueClient.forWork(redis.url)
  open.push(queue)
  expect(await fast.get(KEY.version)).toBe('3')
})

describe('jobs', () => {
  it('a parent gives up its worker for its children and ends the request with its own result', async () => {
    const { journal, producer } = await client()
    const root = randomUUID()
    let runs = 0
    await worker('ingest', QUEUES.ingest, {
      ...noImport,
      load: async ({ root }, context) => {
        runs++
        await context.children(children(root, 3))
        return { images: [] }
      },
    })
    await worker('extract', QUEUES.extract, {
      extract: async () => {
        // Children that end before their parent waits cost it no second run.
        await expect
          .poll(async () => (await producer.queue(QUEUES.ingest).getJob(root))?.isWaitingChildren())
          .toBe(true)
        return { node: 'n', made: true }
      },
    })
    await journal.create(root, 'load', 'waiting')
    await producer.add({ name: 'load', queue: QUEUES.ingest, id: root, data: { root, upload: root, prepare: false } })
    expect(await journal.end(root, never)).toMatchObject({ state: 'completed', result: { images: [] } })
    expect(runs).toBe(2)
  })

  it('a parent starts children and goes on, and waits for them later', async () => {
    const { journal, producer } = await client()
    const root = randomUUID()
    const made: number[] = []
    let runs = 0
    await worker('ingest', QUEUES.ingest, {
      ...noImport,
      load: async ({ root }, context) => {
        runs++
        const all = children(root, 3)
        if (runs === 1) {
          await Promise.all(all.slice(0, 2).map((one) => context.startChildren([one])))
          // They are worked on while this run goes on.
          await expect.poll(() => [...made].sort()).toEqual([0, 1])
        }
        await context.children(all)
        return { images: [] }
      },
    })
    await worker('extract', QUEUES.extract, {
      extract: async ({ layer }) => {
        if (layer.size === 2)
          await expect
            .poll(async () => (await producer.queue(QUEUES.ingest).getJob(root))?.isWaitingChildren())
            .toBe(true)
        made.push(layer.size)
        return { node: 'n', made: true }
      },
    })
    await journal.create(root, 'load', 'waiting')
    await producer.add({ name: 'load', queue: QUEUES.ingest, id: root, data: { root, upload: root, prepare: false } })
    expect(await journal.end(root, never)).toMatchObject({ state: 'completed', result: { images: [] } })
    expect({ runs, made: made.sort() }).toEqual({ runs: 2, made: [0, 1, 2] })
  })

  it('a parent that fails while children run stops them, also those that no worker has', async () => {
    const { journal, producer } = await client()
    const root = randomUUID()
    const reasons: unknown[] = []
    let isRunning = false
    await worker('ingest', QUEUES.ingest, {
      ...noImport,
      load: async ({ root }, context) => {
        await context.startChildren(children(root, 2))
        await expect.poll(() => isRunning).toBe(true)
        throw new StrataError('blob_not_found', 'the parent')
      },
    })
    await worker('extract', QUEUES.extract, {
      extract: async (_, context) => {
        isRunning = true
        await aborted(context.signal)
        reasons.push(context.signal.reason)
        throw context.signal.reason
      },
    })
    await journal.create(root, 'load', 'waiting')
    await producer.add({ name: 'load', queue: QUEUES.ingest, id: root, data: { root, upload: root, prepare: false } })
    expect(await journal.end(root, never)).toMatchObject({ state: 'failed', error: { code: 'blob_not_found' } })
    await expect.poll(() => reasons).toMatchObject([{ code: 'blob_not_found' }])
    await expect.poll(async () => producer.unfinished(QUEUES.extract)).toBe(0)
  })

  it('a run that fails stops the children of the run before, which had started them and was cut short', async () => {
    const { journal, producer } = await client()
    const root = randomUUID()
    const started = Promise.withResolvers<undefined>()
    const stop = Promise.withResolvers<undefined>()
    const first = await worker('ingest', QUEUES.ingest, {
      ...noImport,
      load: async ({ root }, context) => {
        await context.startChildren(children(root, 2))
        started.resolve(undefined)
        await stop.promise
        return context.giveBack()
      },
    })
    await journal.create(root, 'load', 'waiting')
    await producer.add({ name: 'load', queue: QUEUES.ingest, id: root, data: { root, upload: root, prepare: false } })
    await started.promise
    const closed = first.close()
    stop.resolve(undefined)
    await closed
    expect(await producer.unfinished(QUEUES.extract)).toBe(2)
    await worker('ingest', QUEUES.ingest, {
      ...noImport,
      load: () => Promise.reject(new StrataError('unsupported', 'the next run')),
    })
    expect(await journal.end(root, never)).toMatchObject({ state: 'failed', error: { code: 'unsupported' } })
    await expect.poll(async () => producer.unfinished(QUEUES.extract)).toBe(0)
  })

  it('a child that fails aborts its parent, which has not waited yet', async () => {
    const { journal, producer } = await client()
    const root = randomUUID()
    await worker('ingest', QUEUES.ingest, {
      ...noImport,
      load: async ({ root }, context) => {
        await context.startChildren(children(root, 1))
        await aborted(context.signal)
        throw context.signal.reason
      },
    })
    await worker('extract', QUEUES.extract, {
      extract: () => Promise.reject(new StrataError('layer_invalid', 'the child')),
    })
    await journal.create(root, 'load', 'waiting')
    await producer.add({ name: 'load', queue: QUEUES.ingest, id: root, data: { root, upload: root, prepare: false } })
    expect(await journal.end(root, never)).toMatchObject({ state: 'failed', error: { code: 'layer_invalid' } })
  })

  it('a child that failed between two runs aborts the second one', async () => {
    const { journal, producer } = await client()
    const root = randomUUID()
    const started = Promise.withResolvers<undefined>()
    const stop = Promise.withResolvers<undefined>()
    const first = await worker('ingest', QUEUES.ingest, {
      ...noImport,
      load: async ({ root }, context) => {
        await context.startChildren(children(root, 1))
        started.resolve(undefined)
        await stop.promise
        return context.giveBack()
      },
    })
    await journal.create(root, 'load', 'waiting')
    await producer.add({ name: 'load', queue: QUEUES.ingest, id: root, data: { root, upload: root, prepare: false } })
    await started.promise
    const closed = first.close()
    stop.resolve(undefined)
    await closed
    await worker('extract', QUEUES.extract, {
      extract: () => Promise.reject(new StrataError('layer_invalid', 'the child')),
    })
    await expect.poll(async () => producer.unfinished(QUEUES.extract)).toBe(0)
    await worker('ingest', QUEUES.ingest, {
      ...noImport,
      load: async (_, context) => {
        await aborted(context.signal)
        throw context.signal.reason
      },
    })
    expect(await journal.end(root, never)).toMatchObject({ state: 'failed', error: { code: 'layer_invalid' } })
  })

  it('a job that is given back is run from its start by another worker, at once', async () => {
    const { journal, producer } = await client()
    const root = randomUUID()
    const begun = Promise.withResolvers<undefined>()
    const stop = Promise.withResolvers<undefined>()
    const first = await worker('ingest', QUEUES.ingest, {
      ...noImport,
      load: async (_, context) => {
        begun.resolve(undefined)
        await stop.promise
        return context.giveBack()
      },
    })
    await journal.create(root, 'load', 'waiting')
    await producer.add({ name: 'load', queue: QUEUES.ingest, id: root, data: { root, upload: root, prepare: false } })
    await begun.promise
    const closed = first.close()
    stop.resolve(undefined)
    await closed
    expect((await journal.get(root)).state).toBe('waiting')
    await worker('ingest', QUEUES.ingest, { ...noImport, load: () => Promise.resolve({ images: [] }) })
    expect(await journal.end(root, never)).toMatchObject({ state: 'completed' })
  })

  it('a job in the background waits for all others, leaves nothing when it has ended, and has a bound', async () => {
    const { producer } = await client()
    const queue = `extract.${randomUUID()}`
    const jobs = (of: string, count: number) =>
      children(randomUUID(), count).map((job, at) => ({ ...job, queue, id: `${of}-${at}` }))
    const [failing, ...others] = jobs('push', 4)
    expect(await producer.addInBackground(queue, [failing!, ...others], 3)).toBe(3)
    // The queue is full, and what waits is not added again.
    expect(await producer.addInBackground(queue, jobs('more', 1), 3)).toBe(0)
    expect(await producer.addInBackground(queue, [failing!], 4)).toBe(1)
    expect(await producer.unfinished(queue)).toBe(3)
    for (const job of jobs('load', 2)) await producer.add(job)
    const done: string[] = []
    const extract: Handlers<'extract'>['extract'] = (_, { id }) => {
      done.push(id)
      return id === 'push-0'
        ? Promise.reject(new StrataError('corrupt', 'x'))
        : Promise.resolve({ node: 'n', made: true })
    }
    await worker('extract', queue, { extract })
    await expect.poll(() => done).toEqual(['load-0', 'load-1', 'push-0', 'push-1', 'push-2'])
    await expect.poll(() => producer.unfinished(queue)).toBe(0)
    for (const id of ['push-0', 'push-2']) expect(await producer.has({ queue, id })).toBe(false)
    expect(await producer.addInBackground(queue, [failing!], 3)).toBe(1)
    await expect.poll(() => done.length).toBe(6)
  })

  it('a job in the background whose worker died waits for all others again', async () => {
    const { producer, fast } = await client()
    const queue = `extract.${randomUUID()}`
    const jobs = (of: string, count: number) =>
      children(randomUUID(), count).map((job, at) => ({ ...job, queue, id: `${of}-${at}` }))
    await producer.addInBackground(queue, jobs('push', 2), 10)
    const add = async (): Promise<void> => {
      for (const job of jobs('load', 2)) await producer.add(job)
    }
    await add()
    // As BullMQ leaves a job that has stalled: first in the line of those without a priority.
    const key = (of: string): string => `${BULL_PREFIX}:${queue}:${of}`
    await fast.zrem(key('prioritized'), 'push-0')
    await fast.rpush(key('wait'), 'push-0')
    await fast.hincrby(key('push-0'), 'stc', 1)
    const done: string[] = []
    await worker('extract', queue, {
      extract: (_, { id }) => {
        done.push(id)
        return Promise.resolve({ node: 'n', made: true })
      },
    })
    await expect.poll(() => done).toEqual(['load-0', 'load-1', 'push-0', 'push-1'])
    await expect.poll(() => producer.unfinished(queue)).toBe(0)
  })

  it('their runs are told by name and outcome, and so is how much waits', async () => {
    const { journal, producer } = await client()
    const told: string[] = []
    const queue = await QueueClient.forWork(redis.url, {
      started: (job) => told.push(`${job} started`),
      ended: (job, outcome, seconds) => {
        expect(seconds).toBeGreaterThanOrEqual(0)
        told.push(`${job} ${outcome}`)
      },
    })
    open.push(queue)
    const [root, failed, cancelled] = [randomUUID(), randomUUID(), randomUUID()]
    const [loads, layers] = [QUEUES.ingest, QUEUES.extractOn('told')]
    const load = async (context: JobContext): Promise<{ images: [] }> => {
      await context.children(children(context.id, 1).map((child) => ({ ...child, queue: layers })))
      return { images: [] }
    }
    const parents = queue.serve({
      kind: 'ingest',
      queue: loads,
      concurrency: 1,
      paused: true,
      handlers: { ...noImport, load: (_, context) => load(context) },
    })
    queue.serve({
      kind: 'extract',
      queue: layers,
      concurrency: 1,
      handlers: {
        extract: async ({ root }, { signal }) => {
          if (root === failed) throw new StrataError('corrupt', 'as it is')
          if (root === cancelled) await aborted(signal)
          // A child that ends before its parent waits costs it no second run.
          else await expect.poll(async () => (await producer.queue(loads).getJob(root))?.isWaitingChildren()).toBe(true)
          signal.throwIfAborted()
          return { node: 'n', made: true }
        },
      },
    })
    await journal.create(root, 'load', 'waiting')
    await journal.create(cancelled, 'load', 'waiting')
    await producer.add({ name: 'load', queue: loads, id: root, data: { root, upload: root, prepare: false } })
    const depth = async (name: string) => (await queue.depths()).find((one) => one.queue === name)
    expect((await depth('ingest'))?.jobs).toEqual({ waiting: 1, background: 0, active: 0, delayed: 0, children: 0 })
    // Queues of nodes are told as one.
    const idle = QUEUES.extractOn('idle')
    await producer.addInBackground(idle, children(randomUUID(), 2), 2)
    expect((await queue.depths([idle])).find((one) => one.queue === 'extract.node')?.jobs.background).toBe(2)
    await expect.poll(async () => (await depth('ingest'))?.oldestWaitingSeconds).toBeGreaterThan(0)
    await parents.resume()
    expect(await journal.end(root, never)).toMatchObject({ state: 'completed' })
    for (const one of [failed, cancelled])
      await producer.add({ name: 'extract', queue: layers, id: one, data: { root: one, layer: layer(1) } })
    await expect.poll(async () => (await depth('extract.node'))?.jobs.active).toBe(1)
    await journal.stopWork(cancelled)
    await producer.queue(layers).add('a name that comes from\noutside', {})
    const of = (job: RegExp) => told.filter((line) => job.test(line))
    await expect
      .poll(() => of(/^(extract|unknown)/))
      .toEqual([
        'extract started',
        'extract completed',
        'extract started',
        'extract failed',
        'extract started',
        'extract cancelled',
        'unknown started',
        'unknown failed',
      ])
    expect(of(/^load/)).toEqual(['load started', 'load suspended', 'load started', 'load completed'])
    expect(await queue.depths([QUEUES.collect])).toMatchObject([
      { queue: 'collect', jobs: { waiting: 0, active: 0, children: 0 }, oldestWaitingSeconds: 0 },
      { queue: 'ingest' },
      { queue: 'extract.node' },
    ])
  })

  it('queues that only flows add to keep as few events as all', async () => {
    const { producer, fast } = await client()
    const root = randomUUID()
    const [parent, child] = [`ingest.${root}`, `extract.${root}`]
    await producer.addFlow(
      { name: 'load', queue: parent, id: root, data: { root, upload: root, prepare: false } },
      children(root, 1).map((each) => ({ ...each, queue: child })),
    )
    for (const queue of [parent, child])
      await expect
        .poll(() => fast.hget(`${BULL_PREFIX}:${queue}:meta`, 'opts.maxLenEvents'), { message: queue })
        .toBe('500')
  })

  it('a failing child ends its parent with the child’s own code and sentence, and stops its siblings', async () => {
    const { journal, producer } = await client()
    const root = randomUUID()
    let stopped = 0
    await worker('ingest', QUEUES.ingest, {
      ...noImport,
      load: async ({ root }, context) => {
        await context.children(children(root, 3))
        return { images: [] }
      },
    })
    await worker(
      'extract',
      QUEUES.extract,
      {
        extract: async ({ layer }, context) => {
          if (layer.size === 1) throw new StrataError('digest_mismatch', 'the layer is not what its manifest says')
          await aborted(context.signal)
          stopped++
          throw context.signal.reason
        },
      },
      2,
    )
    await journal.create(root, 'load', 'waiting')
    await producer.add({ name: 'load', queue: QUEUES.ingest, id: root, data: { root, upload: root, prepare: false } })
    expect(await journal.end(root, never)).toMatchObject({
      state: 'failed',
      error: { code: 'digest_mismatch', message: 'the layer is not what its manifest says' },
    })
    await expect.poll(() => stopped).toBeGreaterThanOrEqual(1)
  })

  it('what fails inside is told to nobody but the log of the worker where it did: once, with its request', async () => {
    const { journal, producer, fast } = await client()
    const root = randomUUID()
    const parent: string[] = []
    const child: string[] = []
    await worker(
      'ingest',
      QUEUES.ingest,
      {
        ...noImport,
        load: async ({ root }, context) => {
          await context.children(children(root, 1))
          return { images: [] }
        },
      },
      1,
      ({ message }) => void parent.push(message),
    )
    await worker(
      'extract',
      QUEUES.extract,
      { extract: () => Promise.reject(new TypeError('canary is not a function')) },
      1,
      ({ message }) => void child.push(message),
    )
    await journal.create(root, 'load', 'waiting')
    await producer.add({ name: 'load', queue: QUEUES.ingest, id: root, data: { root, upload: root, prepare: false } })
    const ended = await journal.end(root, never)
    expect(ended).toMatchObject({ state: 'failed', error: { code: 'internal', message: ERROR_TITLES.internal } })
    await expect.poll(async () => fast.exists(`${BULL_PREFIX}:${QUEUES.ingest}:failed`)).toBe(1)
    for (const key of await fast.keys('*')) {
      const type = await fast.type(key)
      if (type === 'hash') expect(JSON.stringify(await fast.hgetall(key))).not.toContain('canary')
      if (type === 'stream') expect(JSON.stringify(await fast.xrange(key, '-', '+'))).not.toContain('canary')
    }
    expect({ parent, child }).toEqual({
      parent: [],
      child: [
        expect.stringMatching(
          new RegExp(`^extract of the request ${root} failed inside: TypeError: canary is not a function\n +at `),
        ) as string,
      ],
    })
  })

  it('a record of an older version says no more than a new one', async () => {
    const { journal, fast } = await client()
    const id = randomUUID()
    await journal.create(id, 'load', 'waiting')
    await fast.hset(`strata:job:${id}`, {
      state: 'failed',
      error: JSON.stringify({ code: 'internal', message: 'canary is not a function' }),
    })
    expect((await journal.get(id)).error).toEqual({ code: 'internal', message: ERROR_TITLES.internal })
  })

  it('a child that fails before its parent waits still wakes it at once', async () => {
    const { journal, producer } = await client()
    const root = randomUUID()
    let aboutToWait = false
    const delayed = vi.spyOn(Job.prototype, 'moveToWaitingChildren').mockImplementation(async function (
      this: Job,
      token,
      options,
    ) {
      aboutToWait = true
      await expect.poll(async () => Object.keys(await this.getIgnoredChildrenFailures())).toHaveLength(1)
      delayed.mockRestore()
      return this.moveToWaitingChildren(token, options)
    })
    await worker('ingest', QUEUES.ingest, {
      ...noImport,
      load: async ({ root }, context) => {
        await context.children(children(root, 2))
        return { images: [] }
      },
    })
    await worker(
      'extract',
      QUEUES.extract,
      {
        extract: async ({ layer }, context) => {
          // Sooner, and the parent would see the failure before it thinks of waiting.
          await expect.poll(() => aboutToWait).toBe(true)
          if (layer.size === 1) throw new StrataError('digest_mismatch', 'not the layer')
          await aborted(context.signal)
          throw context.signal.reason
        },
      },
      2,
    )
    await journal.create(root, 'load', 'waiting')
    await producer.add({ name: 'load', queue: QUEUES.ingest, id: root, data: { root, upload: root, prepare: false } })
    expect(await journal.end(root, never)).toMatchObject({ state: 'failed', error: { code: 'digest_mismatch' } })
  })

  it('a cancelled request whose children no worker has wakes and ends as cancelled', async () => {
    const { journal, producer } = await client()
    const root = randomUUID()
    let waiting = false
    await worker('ingest', QUEUES.ingest, {
      ...noImport,
      load: async ({ root }, context) => {
        context.signal.throwIfAborted()
        waiting = true
        await journal.update(root, { state: 'active' })
        await context.children([
          { name: 'extract', queue: QUEUES.extractOn('absent'), id: `${root}-x`, data: { root, layer: layer(1) } },
        ])
        return { images: [] }
      },
    })
    await journal.create(root, 'load', 'waiting')
    await producer.add({ name: 'load', queue: QUEUES.ingest, id: root, data: { root, upload: root, prepare: false } })
    await expect.poll(() => waiting).toBe(true)
    await expect.poll(async () => (await producer.queue(QUEUES.ingest).getJob(root))?.isWaitingChildren()).toBe(true)
    await journal.cancel(root, () => Promise.resolve())
    expect(await journal.end(root, never)).toMatchObject({ state: 'cancelled' })
  })

  describe('a request that is cancelled while its job waits ends at once, whoever has the slots:', () => {
    /** A job has the only slot of `ingest` until the test ends. What others do is `load`. */
    async function busy(load: Handlers<'ingest'>['load'] = () => Promise.resolve({ images: [] })) {
      const { journal, producer } = await client()
      const holder = randomUUID()
      const hasSlot = Promise.withResolvers<undefined>()
      const over = Promise.withResolvers<undefined>()
      const seen: AbortSignal[] = []
      let holding = false
      await worker('ingest', QUEUES.ingest, {
        ...noImport,
        load: async (data, context) => {
          if (data.root !== holder) {
            seen.push(context.signal)
            return load(data, context)
          }
          holding = true
          hasSlot.resolve(undefined)
          await over.promise
          holding = false
          return { images: [] }
        },
      })
      open.push({ close: () => over.resolve(undefined) })
      const add = async (root: string): Promise<void> => {
        await producer.add({
          name: 'load',
          queue: QUEUES.ingest,
          id: root,
          data: { root, upload: root, prepare: false },
        })
      }
      const takeSlot = async (): Promise<void> => {
        await journal.create(holder, 'load', 'waiting')
        await add(holder)
        await hasSlot.promise
      }
      const isGone = async (root: string): Promise<boolean> => !(await producer.has({ queue: QUEUES.ingest, id: root }))
      return { journal, producer, seen, add, takeSlot, isGone, isHeld: () => holding }
    }
    const stopped: Handlers<'ingest'>['load'] = (_, { signal }) => {
      signal.throwIfAborted()
      return Promise.resolve({ images: [] })
    }
    const cancelled = { state: 'cancelled', error: { code: 'cancelled' } }

    it('for a slot', async () => {
      const { journal, seen, add, takeSlot, isGone, isHeld } = await busy(stopped)
      const root = randomUUID()
      await takeSlot()
      await journal.create(root, 'load', 'waiting')
      // As after a first run.
      await journal.update(root, { state: 'active', step: 'launching' })
      await add(root)
      await journal.cancel(root, () => Promise.resolve())
      expect(await journal.end(root, never)).toMatchObject(cancelled)
      await expect.poll(() => isGone(root)).toBe(true)
      expect(seen.map(({ aborted }) => aborted)).toEqual([true])
      expect(isHeld()).toBe(true)
    })

    it('and came into its queue after that', async () => {
      const { journal, add, takeSlot, isGone, isHeld } = await busy(stopped)
      const root = randomUUID()
      await takeSlot()
      await journal.create(root, 'load', 'waiting')
      await journal.update(root, { state: 'active' })
      await journal.cancel(root, () => Promise.resolve())
      await add(root)
      expect(await journal.end(root, never)).toMatchObject(cancelled)
      await expect.poll(() => isGone(root)).toBe(true)
      expect(isHeld()).toBe(true)
    })

    it('behind its children, which were under way', async () => {
      const root = randomUUID()
      const started = Promise.withResolvers<undefined>()
      const { journal, producer, add, takeSlot, isHeld } = await busy(async (_, context) => {
        context.signal.throwIfAborted()
        await journal.update(root, { state: 'active' })
        await context.children(children(root, 2))
        return { images: [] }
      })
      await worker('extract', QUEUES.extract, {
        extract: async (_, { signal }) => {
          started.resolve(undefined)
          await aborted(signal)
          throw signal.reason
        },
      })
      await journal.create(root, 'load', 'waiting')
      await add(root)
      await started.promise
      await expect.poll(async () => (await producer.queue(QUEUES.ingest).getJob(root))?.isWaitingChildren()).toBe(true)
      await takeSlot()
      await journal.cancel(root, () => Promise.resolve())
      expect(await journal.end(root, never)).toMatchObject(cancelled)
      expect(isHeld()).toBe(true)
    })

    it('for a while, since it was put back', async () => {
      const { journal, producer, add, takeSlot, isHeld } = await busy(async ({ root }, context) => {
        context.signal.throwIfAborted()
        await journal.update(root, { state: 'active' })
        return context.again(new StrataError('store_unavailable', 'the store is away'))
      })
      const root = randomUUID()
      await journal.create(root, 'load', 'waiting')
      await add(root)
      // Its pause has grown: it is not over soon.
      await expect.poll(async () => (await producer.queue(QUEUES.ingest).getJob(root))?.delay ?? 0).toBeGreaterThan(900)
      await takeSlot()
      await journal.cancel(root, () => Promise.resolve())
      expect(await journal.end(root, never)).toMatchObject(cancelled)
      expect(isHeld()).toBe(true)
    })

    it('for a while, and is put back again by the run that is to end it', async () => {
      const { journal, producer, add, takeSlot, isHeld } = await busy(async ({ root }, context) => {
        await journal.update(root, { state: 'active' })
        return context.again(new StrataError('store_unavailable', 'the store is away'))
      })
      const root = randomUUID()
      await journal.create(root, 'load', 'waiting')
      await add(root)
      await expect.poll(async () => (await producer.queue(QUEUES.ingest).getJob(root))?.delay ?? 0).toBeGreaterThan(900)
      await takeSlot()
      await journal.cancel(root, () => Promise.resolve())
      expect(await journal.end(root, never)).toMatchObject(cancelled)
      expect(isHeld()).toBe(true)
    })
  })

  it('a run that has lost its job ends nothing, and hears of it', async () => {
    const { journal, producer, fast } = await client()
    const root = randomUUID()
    const first = Promise.withResolvers<{ failed: unknown; reason: unknown; owned: unknown }>()
    let runs = 0
    await worker(
      'ingest',
      QUEUES.ingest,
      {
        ...noImport,
        load: async (_, context) => {
          if (++runs === 1) {
            // As after a pause that was longer than the lock.
            await fast.del(`${BULL_PREFIX}:${QUEUES.ingest}:${root}:lock`)
            await aborted(context.signal)
            const late = new StrataError('internal', 'the late run')
            first.resolve({
              failed: await context.fail(late).catch((error: unknown) => error),
              reason: context.signal.reason,
              owned: await context.assertOwned().catch((error: unknown) => error),
            })
            throw late
          }
          await first.promise
          await context.assertOwned()
          return { images: [] }
        },
      },
      2,
    )
    await journal.create(root, 'load', 'waiting')
    await producer.add({ name: 'load', queue: QUEUES.ingest, id: root, data: { root, upload: root, prepare: false } })
    expect(await journal.end(root, never)).toMatchObject({ state: 'completed' })
    const lost = expect.any(LostRun) as unknown
    expect(await first.promise).toEqual({ failed: lost, reason: lost, owned: lost })
    expect(runs).toBe(2)
  }, 60_000)

  it('a late run that asks for children ends nothing', async () => {
    const { journal, producer, fast } = await client()
    const root = randomUUID()
    const ended = Promise.withResolvers<unknown>()
    let runs = 0
    await worker(
      'ingest',
      QUEUES.ingest,
      {
        ...noImport,
        load: async (_, context) => {
          if (++runs > 1) {
            await ended.promise
            return { images: [] }
          }
          await fast.del(`${BULL_PREFIX}:${QUEUES.ingest}:${root}:lock`)
          await expect.poll(() => runs).toBe(2)
          return context.children(children(root, 1)).then(
            () => ({ images: [] }),
            (error: unknown) => {
              ended.resolve(error)
              throw error
            },
          )
        },
      },
      2,
    )
    await journal.create(root, 'load', 'waiting')
    await producer.add({ name: 'load', queue: QUEUES.ingest, id: root, data: { root, upload: root, prepare: false } })
    expect(await journal.end(root, never)).toMatchObject({ state: 'completed' })
    expect(await ended.promise).toBeInstanceOf(LostRun)
  }, 60_000)

  it('a job that is put back runs again from its start', async () => {
    const { journal, producer } = await client()
    const root = randomUUID()
    let runs = 0
    await worker('ingest', QUEUES.ingest, {
      ...noImport,
      load: async (_, context) => {
        if (++runs < 3) await context.again(new StrataError('store_unavailable', 'the store is away'))
        return { images: [] }
      },
    })
    await journal.create(root, 'load', 'waiting')
    await producer.add({ name: 'load', queue: QUEUES.ingest, id: root, data: { root, upload: root, prepare: false } })
    expect(await journal.end(root, never)).toMatchObject({ state: 'completed' })
    expect(runs).toBe(3)
  })

  it('a job that was put back for a minute ends with the reason', async () => {
    const { journal, producer } = await client()
    const root = randomUUID()
    await worker('ingest', QUEUES.ingest, {
      ...noImport,
      load: (_, context) => context.again(new StrataError('store_unavailable', 'the store is away')),
    })
    await journal.create(root, 'load', 'waiting')
    await producer
      .queue(QUEUES.ingest)
      .add(
        'load',
        { root, upload: root, prepare: false, again: { times: 9, since: Date.now() - 61_000 } },
        { jobId: root },
      )
    expect(await journal.end(root, never)).toMatchObject({ state: 'failed', error: { code: 'store_unavailable' } })
  })

  it('a job that has got on since it was put back is put back for a minute once more', async () => {
    const { journal, producer } = await client()
    const root = randomUUID()
    const runs: number[] = []
    await worker('ingest', QUEUES.ingest, {
      ...noImport,
      load: async (_, context) => {
        runs.push(context.asked)
        if (runs.length < 3) await context.children(children(root, 1))
        if (runs.length < 3) await context.again(new StrataError('store_unavailable', 'the store is away'))
        return { images: [] }
      },
    })
    await worker('extract', QUEUES.extract, { extract: () => Promise.resolve({ node: 'n', made: true }) })
    await journal.create(root, 'load', 'waiting')
    await producer
      .queue(QUEUES.ingest)
      .add(
        'load',
        { root, upload: root, prepare: false, again: { times: 9, since: Date.now() - 61_000 } },
        { jobId: root },
      )
    expect(await journal.end(root, never)).toMatchObject({ state: 'completed' })
    // Before its children, put back behind them, and the run that ends it.
    expect(runs).toEqual([0, 1, 1])
  })

  it.each([true, false])('a job whose run has got on (%s) is put back for a minute from then on', async (hasGotOn) => {
    const { journal, producer } = await client()
    const root = randomUUID()
    let runs = 0
    await worker('ingest', QUEUES.ingest, {
      ...noImport,
      load: async (_, context) => {
        if (++runs < 2) await context.again(new StrataError('store_unavailable', 'the store is away'), hasGotOn)
        return { images: [] }
      },
    })
    await journal.create(root, 'load', 'waiting')
    await producer
      .queue(QUEUES.ingest)
      .add(
        'load',
        { root, upload: root, prepare: false, again: { times: 9, since: Date.now() - 61_000 } },
        { jobId: root },
      )
    expect((await journal.end(root, never)).state).toBe(hasGotOn ? 'completed' : 'failed')
  })

  it('a child of another worker’s flow may itself have the parent that waits', async () => {
    const { journal, producer } = await client()
    const root = randomUUID()
    const image = { id: layer(1).digest, digest: layer(2).digest, layers: [layer(3)] }
    await worker('ingest', QUEUES.ingest, {
      ...noImport,
      load: async ({ root }, context) => {
        await context.children([
          { name: 'place', queue: QUEUES.runtime, id: `${root}-place`, data: { root, purpose: 'assemble', image } },
        ])
        return { images: [] }
      },
    })
    await worker('runtime', QUEUES.runtime, {
      place: async ({ root }) => {
        await producer.addFlow(
          { name: 'assemble', queue: QUEUES.runtimeOn('a'), id: `${root}-assemble`, data: { root, image } },
          [{ name: 'extract', queue: QUEUES.extractOn('a'), id: `${root}-a0`, data: { root, layer: layer(3) } }],
          { queue: QUEUES.ingest, id: root },
        )
        return { node: 'a' }
      },
    })
    await worker('extract', QUEUES.extractOn('a'), {
      extract: () => Promise.reject(new StrataError('layer_missing', 'gone')),
    })
    await worker('runtime.node', QUEUES.runtimeOn('a'), {
      assemble: async ({ image }, context) => {
        await context.children([])
        return { node: 'a', id: image.id }
      },
      launch: () => Promise.reject(new Error('not here')),
      start: () => Promise.reject(new Error('not here')),
      clean: () => Promise.reject(new Error('not here')),
    })
    await journal.create(root, 'load', 'waiting')
    await producer.add({ name: 'load', queue: QUEUES.ingest, id: root, data: { root, upload: root, prepare: true } })
    expect(await journal.end(root, never)).toMatchObject({ state: 'failed', error: { code: 'layer_missing' } })
  })

  it('refuses a job whose data does not fit, on the producer’s side and on the worker’s', async () => {
    const { producer, journal } = await client()
    const root = randomUUID()
    await expect(
      producer.add({ name: 'load', queue: QUEUES.ingest, id: root, data: { root: 'x', upload: root, prepare: true } }),
    ).rejects.toMatchObject({ code: 'bad_request' })
    await worker('ingest', QUEUES.ingest, { ...noImport, load: () => Promise.resolve({ images: [] }) })
    await journal.create(root, 'load', 'waiting')
    await producer.queue(QUEUES.ingest).add('load', { root }, { jobId: root })
    expect(await journal.end(root, never)).toMatchObject({ state: 'failed', error: { code: 'bad_request' } })
  })

  it('fails fast while Redis is away, and works again by itself', async () => {
    const { journal, producer } = await client()
    await worker('ingest', QUEUES.ingest, { ...noImport, load: () => Promise.resolve({ images: [] }) })
    await redis.kill()
    const add = (root: string) =>
      producer.add({ name: 'load', queue: QUEUES.ingest, id: root, data: { root, upload: root, prepare: false } })
    const [refused, root] = [randomUUID(), randomUUID()]
    const started = performance.now()
    await expect(journal.create(refused, 'load', 'waiting')).rejects.toMatchObject({ code: 'queue_unavailable' })
    await expect(add(refused)).rejects.toMatchObject({ code: 'queue_unavailable' })
    expect(performance.now() - started).toBeLessThan(20_000)
    await redis.start()
    // Redis may do later what is reported as timed out: each part of that other request by itself.
    const created = async () => {
      await journal.create(root, 'load', 'waiting').catch(() => undefined)
      return (await journal.get(root)).state
    }
    await expect.poll(created).toBe('waiting')
    await add(root)
    expect(await journal.end(root, never)).toMatchObject({ state: 'completed' })
  })
})

describe('the journal', () => {
  it('tells whether a run may go on: it has its job, and its request has not ended', async () => {
    const { journal, fast } = await client()
    const [id, lock] = [randomUUID(), { key: 'a-lock', token: 'a-run' }]
    await journal.create(id, 'launch', 'waiting')
    await expect(journal.assertUnderWay(id, lock)).rejects.toBeInstanceOf(LostRun)
    await fast.set(lock.key, lock.token)
    await journal.assertUnderWay(id, lock)
    // A job that no gateway added.
    await journal.assertUnderWay(randomUUID(), lock)
    await journal.fail(id, new StrataError('node_unavailable', 'the node is gone'))
    await expect(journal.assertUnderWay(id, lock)).rejects.toMatchObject({
      code: 'node_unavailable',
      message: 'the node is gone',
    })
    // Its record was dropped after a day.
    await fast.del(`strata:job:${id}`)
    await expect(journal.assertUnderWay(id, lock)).rejects.toMatchObject({ code: 'job_expired' })
  })

  it('finds the requests of a container until they end', async () => {
    const { journal } = await client()
    const [container, first, second] = [randomUUID(), randomUUID(), randomUUID()]
    await journal.create(first, 'launch', 'waiting', { container })
    await journal.create(second, 'start', 'waiting', { container })
    await journal.create(randomUUID(), 'start', 'waiting', { container: randomUUID() })
    const found = async (): Promise<unknown> => (await journal.ofContainer(container)).map(({ id }) => id).sort()
    expect(await found()).toEqual([first, second].sort())
    await journal.complete(first, {})
    expect(await found()).toEqual([second])
    await journal.fail(second, new StrataError('cancelled', 'x'))
    expect(await found()).toEqual([])
  })

  it('does not guess at a record of a kind that it does not know', async () => {
    const { journal, fast } = await client()
    const [newer, known] = [randomUUID(), randomUUID()]
    await journal.create(newer, 'load', 'waiting')
    await journal.create(known, 'import', 'waiting')
    await fast.hset(KEY.job(newer), 'kind', 'mirror')
    await expect(journal.get(newer)).rejects.toMatchObject({ code: 'unsupported' })
    const listed = (await journal.list(100)).map(({ id }) => id)
    expect([listed.includes(known), listed.includes(newer)]).toEqual([true, false])
  })

  it('gives every record in one page, the newest first, also while others are made and forgotten', async () => {
    const { journal, fast } = await client()
    await fast.del(KEY.jobs)
    const [made, start]: [string[], number] = [[], Date.now() - 60_000]
    for (let at = 0; at < 12; at++) {
      made.unshift(randomUUID())
      await journal.create(made[0]!, 'launch', 'waiting')
      // Those of one millisecond have no order that this test could know.
      await fast.zadd(KEY.jobs, start + at, made[0]!)
    }
    const pages = async (limit: number, each: () => Promise<void> = () => Promise.resolve()) => {
      const found: string[] = []
      let after: string | undefined
      do {
        const page = await journal.page(limit, after)
        expect(page.jobs.length).toBeLessThanOrEqual(limit)
        found.push(...page.jobs.map(({ id }) => id))
        after = page.next
        await each()
      } while (after !== undefined)
      return found
    }
    for (const limit of [1, 5, 12, 1_000]) expect(await pages(limit)).toEqual(made)
    expect(await pages(3, () => journal.create(randomUUID(), 'load', 'waiting'))).toEqual(made)
    await fast.del(KEY.jobs)
    for (const [at, id] of made.toReversed().entries()) await fast.zadd(KEY.jobs, start + at, id)
    // Ended long ago: its record is gone, its id is still known.
    await fast.del(KEY.job(made[5]!))
    expect(await pages(2)).toEqual(made.filter((_, at) => at !== 5))
    await expect(journal.page(2, randomUUID())).rejects.toMatchObject({ code: 'bad_request' })
  })

  it('a page says that more follow, whatever comes while it is read', async () => {
    const { journal, fast, signals } = await client()
    await fast.del(KEY.jobs)
    const oldest = randomUUID()
    await journal.create(oldest, 'load', 'waiting')
    let newest = Date.now()
    // Without records, so that only the number of ids ends a page.
    const come = (count: number): Promise<number> =>
      fast.zadd(KEY.jobs, ...Array.from({ length: count }, () => [++newest, randomUUID()]).flat())
    await come(2_500)
    // Behind each command a job comes.
    const busy = new Proxy(fast, {
      get(of, name) {
        const value: unknown = Reflect.get(of, name)
        if (typeof value !== 'function') return value
        return async (...args: unknown[]): Promise<unknown> => {
          const answer: unknown = await Reflect.apply(value, of, args)
          await come(1)
          return answer
        }
      },
    })
    const found: string[] = []
    for (let after: string | undefined, first = true; first || after !== undefined; first = false) {
      const { jobs, next } = await new Journal(busy, signals).page(1_000, after)
      found.push(...jobs.map(({ id }) => id))
      after = next
    }
    expect(found).toEqual([oldest])
  })

  it('a page of records ends behind 4 MiB of results', async () => {
    const { journal, fast } = await client()
    await fast.del(KEY.jobs)
    for (let at = 0; at < 3; at++) {
      const id = randomUUID()
      await journal.create(id, 'load', 'waiting')
      await journal.complete(id, 'x'.repeat(2_000_000))
    }
    const { jobs, next } = await journal.page(100)
    expect(jobs).toHaveLength(2)
    expect((await journal.page(100, next)).jobs).toHaveLength(1)
  })

  it('knows a used id, and an end is final', async () => {
    const { journal } = await client()
    const id = randomUUID()
    await journal.create(id, 'launch', 'receiving', { total: 5 })
    await expect(journal.create(id, 'load', 'waiting')).rejects.toMatchObject({ code: 'job_exists' })
    await journal.fail(id, new StrataError('upload_interrupted', 'the client left'))
    expect(await journal.complete(id, 1)).toBe(false)
    expect(await journal.get(id)).toMatchObject({ state: 'failed', total: 5, error: { code: 'upload_interrupted' } })
    await expect(journal.get(randomUUID())).rejects.toMatchObject({ code: 'job_not_found' })
  })
})

describe('who follows a request across a reconnection', () => {
  /**
   * A door to Redis that can be shut for messages: every connection breaks, and on the next one
   * SUBSCRIBE is held back, or refused.
   */
  async function gate() {
    const sockets = new Set<Socket>()
    let mode: 'open' | 'hold' | 'refuse' = 'open'
    let asked = 0
    let letThrough = (): void => undefined
    const server = createServer((socket) => {
      const upstream = connect(redis.url.slice('unix://'.length))
      for (const one of [socket, upstream])
        one
          .on('error', () => undefined)
          .on('close', () => (socket.destroy(), upstream.destroy(), sockets.delete(socket)))
      sockets.add(socket)
      upstream.pipe(socket)
      socket.on('data', (data) => {
        if (mode === 'open' || !/\bsubscribe\b/i.test(data.toString('latin1'))) {
          upstream.write(data)
          return
        }
        asked++
        if (mode === 'refuse') socket.write('-NOPERM not now\r\n'.repeat(2))
        else letThrough = () => upstream.write(data)
      })
    })
    const path = join(redis.folder, `gate-${randomUUID().slice(0, 8)}.sock`)
    await new Promise<void>((resolve) => server.listen(path, resolve))
    open.push({ close: () => (sockets.forEach((one) => one.destroy()), server.close(), undefined) })
    return {
      url: `unix://${path}`,
      breakAll: (next: 'hold' | 'refuse') => {
        mode = next
        sockets.forEach((one) => one.destroy())
      },
      asked: () => asked,
      open: () => {
        mode = 'open'
        letThrough()
      },
    }
  }

  async function followed(rereadMs: number) {
    const { journal: writer, fast } = await client()
    const door = await gate()
    const signals = new Signals(door.url, rereadMs)
    open.push(signals)
    const journal = new Journal(fast, signals)
    const id = randomUUID()
    await writer.create(id, 'load', 'waiting')
    const steps: string[] = []
    const cancel = await signals.watchCancel(id)
    const end = (async () => {
      for await (const record of journal.follow(id, never)) steps.push(record.step)
      return steps
    })()
    await expect.poll(() => steps).toEqual(['waiting'])
    // Until this arrives it is not known that Redis has taken the subscription.
    await expect.poll(async () => (await writer.update(id, { step: `${steps.length}` })) && steps.length > 1).toBe(true)
    return { door, writer, id, steps, end, cancel }
  }

  const LONG = 600_000

  it('hears of a change that was published between the connection and the subscription', async () => {
    const { door, writer, id, end, cancel } = await followed(LONG)
    door.breakAll('hold')
    await expect.poll(() => door.asked()).toBe(1)
    await writer.complete(id, {})
    await writer.stopWork(id)
    door.open()
    expect((await end).at(-1)).toBe('done')
    await aborted(cancel.controller.signal)
  })

  it('hears of it also where Redis refuses the subscription', async () => {
    const { door, writer, id, end, cancel } = await followed(200)
    door.breakAll('refuse')
    await expect.poll(() => door.asked()).toBeGreaterThan(0)
    await writer.complete(id, {})
    await writer.stopWork(id)
    expect((await end).at(-1)).toBe('done')
    await aborted(cancel.controller.signal)
    const before = door.asked()
    await expect.poll(() => door.asked()).toBeGreaterThan(before)
  })

  it('waits while Redis is away, and hears of what happened when it is back', async () => {
    const { writer, id, end } = await followed(200)
    await redis.kill()
    await redis.start()
    // Redis may have done what is reported as timed out.
    const completed = async () => {
      await writer.complete(id, {}).catch(() => undefined)
      return (await writer.get(id)).state
    }
    await expect.poll(completed).toBe('completed')
    expect((await end).at(-1)).toBe('done')
  })
})
