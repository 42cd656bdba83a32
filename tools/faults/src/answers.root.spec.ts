import { randomUUID } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { unfinishedBody, until } from '@strata/e2e/testing'
import type { Failpoint } from '@strata/base'
import { Leases } from '@strata/store'
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest'
import { onEachStore, triesAll } from './testing/each-store.js'
import { archiveOf } from './testing/images.js'
import { STORES } from './testing/stores.js'
import { World } from './testing/world.js'

interface Loaded {
  readonly images: readonly { readonly id: string }[]
}

// Who may write what is decided by conditional writes of whole objects, which are the same on each
// store (its laws, libs/store).
onEachStore(
  'on %s, what was answered stays true:',
  (store) => {
    let world: World
    beforeAll(async () => {
      world = await World.start(store)
    })
    const stopped: number[] = []
    afterEach(() => {
      for (const pid of stopped.splice(0)) process.kill(pid, 'SIGCONT')
    })
    afterAll(async () => {
      world.report()
      await world.dispose()
    })
    const imageOf = async (name: string): Promise<string | undefined> =>
      (await world.strata.images()).find(({ names }) => names.includes(name))?.id
    const expectImage = (name: string, id: string | undefined) => async (): Promise<string[]> => {
      const now = await imageOf(name)
      return now === id ? [] : [`${name} is ${now ?? 'gone'}, not ${id ?? 'gone'}`]
    }
    const stop = async (step: Failpoint): Promise<number> => {
      const pid = await world.orders.taken(step)
      stopped.push(pid)
      return pid
    }
    const letGo = (pid: number): void => {
      stopped.splice(stopped.indexOf(pid), 1)
      process.kill(pid, 'SIGCONT')
    }
    async function emptyRedis(): Promise<void> {
      await world.redis.kill()
      await rm(join(world.redis.folder, 'appendonlydir'), { recursive: true })
      await world.redis.start()
    }
    /** The job of a load whose ingest died is taken up again, and is over. */
    const isRunAgain = async (job: string): Promise<string[]> =>
      (await new Leases(world.store.objects).ofRequest(job)) === undefined ? [] : [`the load ${job} was not run again`]

    it('a load that is run again takes no tag back that was moved since, and no image that was removed', async () => {
      const steps: Failpoint[] = ['load.named', 'load.completed', 'load.upload-ended']
      for (const [n, step] of steps.entries()) {
        const [moved, removed] = [`t/moved:${n}`, `t/removed:${n}`]
        const job = randomUUID()
        world.orders.give(step, 'SIGKILL')
        const first = world.load(await archiveOf([moved, removed]), job)
        await world.orders.taken(step)
        await world.kill('ingest')
        await world.strata.ready()
        const newer = (await world.load(await archiveOf([moved]), randomUUID())).json<Loaded>().images[0]!.id
        expect((await world.strata.request('DELETE', `/v1/images/${encodeURIComponent(removed)}`)).status).toBe(200)
        expect((await first).status).toBe(201)
        await world.right(`ingest killed at ${step}`, async () => [
          ...(await isRunAgain(job)),
          ...(await expectImage(moved, newer)()),
          ...(await expectImage(removed, undefined)()),
        ])
      }
    })

    it.each([
      'load.blobs-committed',
      'load.committing',
      'load.name-set',
      'load.named',
      'load.completed',
    ] satisfies Failpoint[])(
      'Redis is emptied while a load is at %s: it is made, and its client hears so',
      async (step) => {
        const [job, name] = [randomUUID(), `t/${step.replace('.', '-')}:1`]
        world.orders.give(step, 'SIGSTOP')
        const answer = world.load(await archiveOf([name]), job)
        const pid = await stop(step)
        await emptyRedis()
        letGo(pid)
        await world.strata.ready()
        const { status, bytes } = await answer
        expect({ status, text: status === 201 ? '' : bytes.toString() }).toEqual({ status: 201, text: '' })
        await world.right(`Redis emptied at ${step}`, async () =>
          (await imageOf(name)) === undefined ? [`${name} is not there`] : [],
        )
      },
    )

    it('Redis is emptied while a gateway has not queued its load yet: it is refused whole, or made', async () => {
      const job = randomUUID()
      world.orders.give('load.received', 'SIGSTOP')
      const answer = world.load(await archiveOf(['t/received:1']), job)
      const pid = await stop('load.received')
      await emptyRedis()
      letGo(pid)
      await world.strata.ready()
      const isMade = (await answer).status === 201
      await world.right('Redis emptied at load.received', async () =>
        ((await imageOf('t/received:1')) === undefined) === isMade ? ['the answer is not true'] : [],
      )
    })

    it('a load that waits and was cancelled is not made after Redis was emptied', async () => {
      const job = randomUUID()
      const ingest = world.strata.pid('ingest')
      stopped.push(ingest)
      process.kill(ingest, 'SIGSTOP')
      const body = Readable.from([await archiveOf(['t/cancelled:1'])])
      expect((await world.strata.request('POST', `/v1/images?job=${job}&wait=false`, body)).status).toBe(202)
      expect((await world.strata.request('DELETE', `/v1/jobs/${job}`)).json()).toMatchObject({ state: 'cancelled' })
      await emptyRedis()
      letGo(ingest)
      await world.strata.ready()
      await world.right('a cancelled load, and Redis emptied', expectImage('t/cancelled:1', undefined))
    })

    it('an id that Redis has forgotten is still the upload’s that has it, and of the images that came with it', async () => {
      const [used, under] = [randomUUID(), randomUUID()]
      const before = (await world.load(await archiveOf(['t/before:1']), used)).json<Loaded>().images[0]!.id
      const body = unfinishedBody()
      const answer = world.strata.request('POST', `/v1/images?job=${under}`, body)
      await until(
        async () => (await new Leases(world.store.objects).ofRequest(under)) !== undefined,
        'the upload is there',
      )
      await emptyRedis()
      await world.strata.ready()
      for (const id of [used, under])
        expect((await world.load(await archiveOf(['t/other:1']), id)).json()).toMatchObject({ code: 'job_exists' })
      expect(await new Leases(world.store.objects).ofRequest(under)).toMatchObject({ state: 'receiving' })
      body.destroy()
      await answer.catch(() => undefined)
      await world.right('ids used again', expectImage('t/before:1', before))
      expect(await imageOf('t/other:1')).toBeUndefined()
      expect(await world.notLaunchable(['t/before:1'])).toEqual([])
    })
  },
  { stores: STORES.filter(triesAll) },
)

onEachStore(
  'on %s, which goes away and comes back,',
  (store) => {
    let world: World
    beforeAll(async () => {
      world = await World.start(store)
    })
    afterAll(async () => {
      world.report()
      await world.dispose()
    })

    /** The store goes away when a load is at the step. */
    async function awayAt(step: Failpoint, name: string): Promise<{ job: string; answer: ReturnType<World['load']> }> {
      const job = randomUUID()
      world.orders.give(step, 'SIGSTOP')
      const answer = world.load(await archiveOf([name]), job)
      const pid = await world.orders.taken(step)
      await world.store.server!.kill()
      process.kill(pid, 'SIGCONT')
      return { job, answer }
    }

    it.each(['load.committing', 'load.name-set', 'load.named', 'load.completed'] satisfies Failpoint[])(
      'a load at %s waits and is made',
      async (step) => {
        const name = `t/${step.replace('.', '-')}:1`
        const { job, answer } = await awayAt(step, name)
        // Said by the run that is put back, or the client has its answer already.
        await until(
          async () => ['waiting for the store', 'done'].includes((await world.job(job)).step),
          'the load waits for the store',
        )
        await world.store.server!.start()
        expect((await answer).status).toBe(201)
        await world.right(`MinIO away at ${step}`, async () =>
          (await world.names()).includes(name) ? [] : [`${name} is not there`],
        )
      },
    )

    it('a load that has waited for a minute fails, and sets no name later', async () => {
      const { job, answer } = await awayAt('load.committing', 't/late:1')
      expect((await answer).json()).toMatchObject({ code: 'store_unavailable' })
      await world.store.server!.start()
      await world.right('MinIO away for longer than a load waits', async () =>
        (await world.names()).includes('t/late:1') ? ['it was made after all'] : [],
      )
      expect(await new Leases(world.store.objects).ofRequest(job)).toBeUndefined()
    })
  },
  { stores: ['minio'] },
)
