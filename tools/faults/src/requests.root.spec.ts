import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import type { JobView } from '@strata/api'
import { header, makeLayer } from '@strata/archive/testing'
import { unfinishedBody, until } from '@strata/e2e/testing'
import { digestOf } from '@strata/oci'
import { Redis } from 'ioredis'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { onEachStore, triesAll } from './testing/each-store.js'
import { archiveOf } from './testing/images.js'
import { World } from './testing/world.js'

const CANCELLED_WITHIN_MS = 2_000

onEachStore(
  'on %s',
  (store) => {
    let world: World
    let second: string
    beforeAll(async () => {
      world = await World.start(store)
      second = join(world.strata.folder, 'second.sock')
      await world.strata.startGroup(['gateway'], false, {
        name: 'second gateway',
        environment: { STRATA_SOCKET: second },
      })
      await world.strata.ready()
      expect((await world.load(await archiveOf(['t/base']), randomUUID())).status).toBe(201)
    })
    afterAll(async () => {
      world.report()
      await world.dispose()
    })
    const state = async (id: string): Promise<string> => {
      const job: Partial<JobView> = await world.job(id)
      return `${job.state ?? 'unknown'} ${job.step ?? ''}`
    }

    it('a gateway that dies while a body arrives: the CLI says so and exits 1, the job says why', async () => {
      const input = unfinishedBody()
      const cli = world.strata.cli(['load'], { input })
      let job: JobView | undefined
      await until(async () => {
        input.write(Buffer.alloc(100_000))
        job = (await world.strata.request('GET', '/v1/jobs'))
          .json<{ jobs: JobView[] }>()
          .jobs.find((one) => one.state === 'receiving' && one.bytes > 500_000)
        return job !== undefined
      }, 'bytes arrive')
      await world.kill('gateway')
      const { code, stderr } = await cli
      input.destroy()
      expect({ code, stderr }).toEqual({
        code: 1,
        stderr: expect.stringMatching(/connection|interrupted|gateway|service/i) as string,
      })
      await world.strata.ready()
      await world.right('a gateway killed while a body arrived', async () =>
        (await state(job!.id)).startsWith('failed') ? [] : [`the job is ${await state(job!.id)}`],
      )
      expect(await world.job(job!.id)).toMatchObject({ state: 'failed', error: { code: 'upload_interrupted' } })
    })

    describe('cancelled through another gateway, within 2 s and with nothing left:', () => {
      /** The request is under way in the state; it is cancelled through the second gateway. */
      async function cancelled(what: string, id: string, reached: (state: string) => boolean): Promise<void> {
        await until(async () => reached(await state(id)), what)
        const since = performance.now()
        expect(
          (await world.strata.request('DELETE', `/v1/jobs/${id}`, undefined, { socket: second })).status,
        ).toBeLessThan(300)
        await until(async () => (await state(id)).startsWith('cancelled'), `${what}: cancelled`)
        expect(performance.now() - since, what).toBeLessThan(CANCELLED_WITHIN_MS)
      }

      it('a load that is receiving, waiting, and waiting for its layers', async () => {
        const [receiving, waiting, extracting] = [randomUUID(), randomUUID(), randomUUID()]
        const body = unfinishedBody()
        const answer = world.strata.request('POST', `/v1/images?job=${receiving}`, body)
        await cancelled('receiving', receiving, (now) => now.startsWith('receiving'))
        expect((await answer).json()).toMatchObject({ code: 'cancelled' })
        body.destroy()

        await world.strata.stop('SIGTERM', 'extractor')
        const extracted = world.load(await archiveOf(['t/gone-1']), extracting)
        await cancelled('extracting', extracting, (now) => now === 'active extracting')
        expect((await extracted).json()).toMatchObject({ code: 'cancelled' })

        await world.strata.stop('SIGTERM', 'ingest')
        const waited = world.load(await archiveOf(['t/gone-2']), waiting)
        await cancelled('waiting', waiting, (now) => now.startsWith('waiting'))
        expect((await waited).json()).toMatchObject({ code: 'cancelled' })
        await world.strata.startGroup(['extractor'])
        await world.strata.startGroup(['ingest'])
        await world.right('loads cancelled', async () =>
          (await world.names()).filter((name) => name.startsWith('t/gone')).map((name) => `${name} is there`),
        )
      })

      it('a load whose layer is being inflated', async () => {
        const id = randomUUID()
        // Members of a gzip file may follow one another: one that gives 1 MB of zeros, 4,000 times.
        const piece = gzipSync(Buffer.alloc(1_000_000), { level: 1 })
        const layer = Buffer.concat([
          gzipSync(header({ name: 'zeros', size: 4_000_000_000 })),
          ...Array.from({ length: 4_000 }, () => piece),
          gzipSync(Buffer.alloc(2048)),
        ])
        const answer = world.load(
          await archiveOf(['t/gone-3'], [{ bytes: layer, diffId: `sha256:${'0'.repeat(64)}` }]),
          id,
        )
        await cancelled('inflating', id, (now) => now === 'active extracting')
        expect((await answer).json()).toMatchObject({ code: 'cancelled' })
        await world.right('a load cancelled while its layer was inflated')
      })

      // The others end jobs, and write nothing.
      if (!triesAll(store)) return

      it('an import that is receiving, and a collection that waits', async () => {
        const [receiving, waiting] = [randomUUID(), randomUUID()]
        const body = unfinishedBody()
        const answer = world.strata.request('POST', `/v1/images?import=t/gone-4&job=${receiving}`, body)
        await cancelled('an import', receiving, (now) => now.startsWith('receiving'))
        expect((await answer).json()).toMatchObject({ code: 'cancelled' })
        body.destroy()

        await world.strata.stop('SIGTERM', 'storage')
        const collected = world.strata.request('POST', `/v1/gc?job=${waiting}`)
        await cancelled('a collection', waiting, (now) => now.startsWith('waiting'))
        expect((await collected).json()).toMatchObject({ code: 'cancelled' })
        await world.strata.startGroup(['storage'])
        await world.right('an import and a collection cancelled')
      })

      it('a launch that waits for a layer, by the removal of its container', async () => {
        // Plain, so that no extractor is needed to load it, and the node does not have it yet.
        const bytes = await makeLayer(new Map([['unmade', { content: randomUUID() }]]))
        const archive = await archiveOf(['t/unmade'], [{ bytes, diffId: digestOf(bytes) }])
        expect((await world.load(archive, randomUUID(), '&prepare=false')).status).toBe(201)
        const job = randomUUID()
        // Stopped, so that the node still counts as one that is ready.
        const extractor = world.strata.pid('extractor')
        process.kill(extractor, 'SIGSTOP')
        try {
          const launched = world.strata.request('POST', `/v1/containers?job=${job}`, {
            image: 't/unmade',
            name: 'unmade',
            command: ['true'],
          })
          await until(async () => (await world.container('unmade'))?.state === 'created', 'its container is there')
          expect((await world.strata.request('DELETE', '/v1/containers/unmade?force')).status).toBe(204)
          await launched
          // Not with what its node's extractor comes to when that is missed.
          expect(await world.job(job)).toMatchObject({ state: 'cancelled', error: { code: 'cancelled' } })
        } finally {
          process.kill(extractor, 'SIGCONT')
        }
        await world.right('a container removed before its launch')
      })

      it('a launch that no node has, and one that waits for a layer', async () => {
        const archive = await archiveOf(['t/unprepared'])
        expect((await world.load(archive, randomUUID(), '&prepare=false')).status).toBe(201)
        const [placing, extracting] = [randomUUID(), randomUUID()]
        const launch = (job: string, image: string) =>
          world.strata.request('POST', `/v1/containers?job=${job}`, { image, command: ['true'] })
        // Stopped, so that the node still counts as one that is ready.
        const extractor = world.strata.pid('extractor')
        process.kill(extractor, 'SIGSTOP')
        const second = launch(extracting, 't/unprepared')
        try {
          await cancelled('waiting for a layer', extracting, (now) => now.startsWith('active'))
          expect((await second).json()).toMatchObject({ code: 'cancelled' })
        } finally {
          process.kill(extractor, 'SIGCONT')
        }
        // Killed, so that it still counts as a node.
        await world.strata.stop('SIGKILL', 'runtime')
        const first = launch(placing, 't/base')
        await cancelled('waiting for a node', placing, (now) => now.startsWith('waiting'))
        expect((await first).json()).toMatchObject({ code: 'cancelled' })
        await world.strata.startGroup(['runtime'])
        await world.strata.ready()
        await world.right('launches cancelled', async () =>
          (await world.strata.containers()).map(({ id }) => `container ${id} is there`),
        )
      })
    })

    // The count is the queue's.
    if (!triesAll(store)) return
    it('a job that kills its worker each time ends as poisoned, and the others go on', async () => {
      const poison = randomUUID()
      const redis = new Redis(world.redis.url.replace('unix://', ''))
      world.orders.give('load.listed', 'SIGKILL', { only: poison })
      const answer = world.load(await archiveOf(['t/poison']), poison)
      await world.orders.taken('load.listed')
      // Each death costs the time of a lock. That eight came before is what the queue counts in the
      // job.
      await redis.hincrby(`strata-q:ingest:${poison}`, 'stc', 8)
      redis.disconnect()
      const others: ReturnType<World['load']>[] = []
      for (let death = 1; (await state(poison)).startsWith('active'); death++) {
        world.orders.give('load.listed', 'SIGKILL', { only: poison })
        await world.kill('ingest')
        others.push(world.load(await archiveOf([`t/other-${death}`]), randomUUID()))
        await until(
          async () => world.orders.wasTaken('load.listed') || !(await state(poison)).startsWith('active'),
          'it kills again, or is given up',
        )
        expect(death).toBeLessThan(12)
      }
      world.orders.withdraw('load.listed')
      expect((await answer).json()).toMatchObject({ code: 'poisoned' })
      // One may have been at work beside it when it killed their worker; then it was run again.
      expect((await Promise.all(others)).map(({ status }) => status)).toEqual(others.map(() => 201))
      await world.right('a poisoned job', async () =>
        (await world.names()).includes('t/poison:latest') ? ['the poisoned image is there'] : [],
      )
      expect(await world.notLaunchable(['t/other-1'])).toEqual([])
    })
  },
  { oneByOne: true },
)
