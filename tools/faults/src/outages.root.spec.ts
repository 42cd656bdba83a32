import { randomUUID } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { until } from '@strata/e2e/testing'
import { digestOf } from '@strata/oci'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { onEachStore, triesAll } from './testing/each-store.js'
import { archiveOf, packed, ownLayer } from './testing/images.js'
import { SmallDisk } from './testing/small-disk.js'
import { STORES } from './testing/stores.js'
import { World } from './testing/world.js'

/** What a request came to, also where its connection broke. */
const status = (answer: Promise<{ readonly status: number }>): Promise<number> =>
  answer.then(
    (one) => one.status,
    () => 0,
  )

// What Redis had is told again by nodes and from whole objects, on which no store differs.
onEachStore(
  'on %s, Redis',
  (store) => {
    let world: World
    let pid: number
    beforeAll(async () => {
      world = await World.start(store)
      expect((await world.load(await archiveOf(['t/base']), randomUUID())).status).toBe(201)
      const runner = await world.strata.request('POST', '/v1/containers', {
        image: 't/base',
        name: 'runner',
        command: ['sleep', '1000'],
      })
      pid = runner.json<{ pid: number }>().pid
    })
    afterAll(async () => {
      world.report()
      await world.dispose()
    })

    /** Loads and launches are under way when Redis goes. */
    async function underWay(): Promise<{
      readonly ended: () => Promise<void>
      readonly problems: () => Promise<string[]>
    }> {
      const launches = Array.from({ length: 3 }, () => world.witness.container('t/base'))
      const archives = await Promise.all(['t/one', 't/two', 't/three'].map(async (name) => archiveOf([name])))
      const requests = [
        ...archives.map((archive) => status(world.load(archive, randomUUID()))),
        ...launches.map(({ body }) => status(world.strata.request('POST', '/v1/containers', body))),
      ]
      await until(
        async () =>
          (await world.strata.request('GET', '/v1/jobs'))
            .json<{ jobs: { state: string }[] }>()
            .jobs.some(({ state }) => ['receiving', 'waiting', 'active'].includes(state)),
        'they are under way',
      )
      return {
        ended: async () => {
          await Promise.all(requests)
        },
        problems: async () => {
          const twice = launches.filter(({ token }) => world.witness.times(token) > 1).map(() => 'a process ran twice')
          const runner =
            (await world.container('runner'))?.pid === pid ? [] : ['the container that ran is not known as it was']
          return [...twice, ...runner]
        },
      }
    }

    it('killed and started again', async () => {
      const work = await underWay()
      await world.redis.kill()
      await world.redis.start()
      await world.strata.ready()
      await work.ended()
      await world.right('Redis killed and started again', work.problems)
      expect(await world.notLaunchable(await world.names())).toEqual([])
    })

    it('started again empty', async () => {
      const work = await underWay()
      await world.redis.kill()
      await rm(join(world.redis.folder, 'appendonlydir'), { recursive: true })
      await world.redis.start()
      await world.strata.ready()
      await until(async () => (await world.container('runner'))?.pid === pid, 'its container is published again')
      await work.ended()
      await world.right('Redis started again empty', work.problems)
      expect(await world.notLaunchable(await world.names())).toEqual([])
    })
  },
  { stores: STORES.filter(triesAll) },
)

onEachStore(
  '%s away',
  (store) => {
    let world: World
    beforeAll(async () => {
      world = await World.start(store)
      expect((await world.load(await archiveOf(['t/base']), randomUUID())).status).toBe(201)
    })
    afterEach(() => {
      world.store.proxy!.trouble = 'pass'
    })
    afterAll(async () => {
      world.report()
      await world.dispose()
    })

    /** A load whose layer is written in parts, as far as the middle of it. */
    async function half(name: string): Promise<{ rest: () => void; answer: Promise<number> }> {
      const layer = await ownLayer(40_000_000)
      const archive = await archiveOf([name], [{ bytes: layer, diffId: digestOf(layer) }])
      const body = new PassThrough({ highWaterMark: archive.length })
      body.on('error', () => undefined)
      const job = randomUUID()
      const answer = status(world.strata.request('POST', `/v1/images?job=${job}`, body))
      body.write(archive.subarray(0, archive.length / 2))
      await until(async () => (await world.store.unfinished()).length > 0, 'a multipart upload is under way')
      return { rest: () => void body.end(archive.subarray(archive.length / 2)), answer }
    }

    it('killed in the middle of a multipart upload, and back after a second: the load goes on', async () => {
      const { rest, answer } = await half('t/parts-1')
      await world.store.server!.kill()
      rest()
      await delay(1_000)
      await world.store.server!.start()
      expect(await answer).toBe(201)
      await world.right('MinIO killed in the middle of a multipart upload')
      expect(await world.notLaunchable(['t/parts-1'])).toEqual([])
    })

    it('killed in the middle of a multipart upload, and away for long: the load is refused, and nothing of it stays', async () => {
      const { rest, answer } = await half('t/parts-2')
      await world.store.server!.kill()
      rest()
      expect(await answer).toBe(503)
      await world.store.server!.start()
      await world.right('MinIO away for long in the middle of a multipart upload', async () =>
        (await world.names()).includes('t/parts-2:latest') ? ['it is listed'] : [],
      )
    })

    it.each(['slow', '503', 'broken', 'silent'] as const)(
      '%s for a while in the middle of a multipart upload: the same',
      async (trouble) => {
        const name = `t/parts-${trouble}`
        const { rest, answer } = await half(name)
        world.store.proxy!.trouble = trouble
        rest()
        await delay(3_000)
        world.store.proxy!.trouble = 'pass'
        const came = await answer
        await world.right(`MinIO ${trouble} for 3 s in the middle of a multipart upload`, async () =>
          (await world.names()).includes(`${name}:latest`) === (came === 201)
            ? []
            : [`the load was answered ${came}, and is ${came === 201 ? 'not ' : ''}there`],
        )
        if (came === 201) expect(await world.notLaunchable([name])).toEqual([])
      },
    )

    it.each(['slow', '503', 'broken', 'silent'] as const)(
      '%s for a while: what is refused is refused whole, and all goes on afterwards',
      async (trouble) => {
        const layer = await ownLayer(2_000_000)
        const archive = await archiveOf([`t/${trouble}`], [packed(layer)])
        world.store.proxy!.trouble = trouble
        const answer = status(world.load(archive, randomUUID()))
        await delay(3_000)
        world.store.proxy!.trouble = 'pass'
        const came = await answer
        await world.right(`MinIO ${trouble} for 3 s`, async () =>
          (await world.names()).includes(`t/${trouble}:latest`) === (came === 201)
            ? []
            : [`the load was answered ${came}, and is ${came === 201 ? 'not ' : ''}there`],
        )
        expect((await world.load(archive, randomUUID())).status).toBe(201)
        expect(await world.notLaunchable([`t/${trouble}`])).toEqual([])
      },
    )
  },
  { stores: ['minio'] },
)

describe('a disk that is full', { timeout: 300_000 }, () => {
  it.each([
    ['folder', 'store'],
    ['folder', 'node'],
    ['minio', 'node'],
  ] as const)(
    'on %s, under the %s: each write of a load may be the one that fails; it is refused whole, and all goes on when there is room',
    async (store, which) => {
      const disk = SmallDisk.make(64)
      const world = await World.start(
        store,
        which === 'node' ? { STRATA_NODE_FOLDER: disk.path } : { STRATA_STORE: join(disk.path, 'objects') },
      )
      try {
        expect((await world.load(await archiveOf(['t/base']), randomUUID())).status).toBe(201)
        const layer = await ownLayer(3_000_000)
        const codes = new Set<string>()
        for (let free = 0; free <= 8_000_000; free += 1_000_000) {
          disk.fill(free)
          const answer = await world.load(await archiveOf([`t/full-${free}`], [packed(layer)]), randomUUID())
          codes.add(answer.status === 201 ? 'loaded' : answer.json<{ code: string }>().code)
        }
        disk.empty()
        expect([...codes].sort()).toEqual(['loaded', 'storage_full'])
        await world.right(`the disk of the ${which} full`)
        expect((await world.load(await archiveOf(['t/after'], [packed(layer)]), randomUUID())).status).toBe(201)
        expect(await world.notLaunchable(await world.names())).toEqual([])
        world.report()
      } finally {
        await world.dispose().finally(() => disk.remove())
      }
    },
  )
})
