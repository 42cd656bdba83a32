import type { IncomingMessage } from 'node:http'
import { tmpdir } from 'node:os'
import { Readable } from 'node:stream'
import { makeArchive } from '@strata/archive/testing'
import { Metrics } from '@strata/platform'
import type { NewJob, Signals } from '@strata/queue'
import { BlobStore, Collector, Leases, listAll, PREFIX, type ObjectStore } from '@strata/store'
import { temporaryStore } from '@strata/store/testing'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { gatewayConfigSchema } from '../config.js'
import type { Requests } from '../jobs/requests.js'
import { LoadService } from './load.service.js'

const JOB = '7f2c1f2e-6a0e-4a51-9a55-0f3b8c2d1e00'

const metrics = (await Metrics.open()).of('gateway')
let store: ObjectStore
let dispose: () => Promise<void>
beforeEach(async () => {
  ;({ store, dispose } = await temporaryStore())
})
afterEach(() => dispose())

/** A gateway's loads, with a Redis that has forgotten every request, and what it queues. */
function gateway(own: ObjectStore): { readonly loads: LoadService; readonly queued: NewJob<'load'>[] } {
  const queued: NewJob<'load'>[] = []
  const done = () => Promise.resolve()
  const requests: Pick<Requests, 'receive' | 'progress' | 'fail' | 'queue'> = {
    receive: done,
    progress: done,
    fail: done,
    queue: (job) => Promise.resolve(void queued.push(job as NewJob<'load'>)),
  }
  const signals = {
    watchCancel: () => Promise.resolve({ controller: new AbortController(), done: () => undefined }),
  }
  const config = gatewayConfigSchema.parse({
    STRATA_STORE: tmpdir(),
    STRATA_REDIS: 'redis://127.0.0.1:1',
    STRATA_LISTEN: '127.0.0.1:0',
    STRATA_TOKEN_FILE: '/unused',
    STRATA_NODE_SECRET_FILE: '/unused',
  })
  const loads = new LoadService(own, requests as Requests, signals as unknown as Signals, config, metrics)
  return { loads, queued }
}

/** The store for a process that stands still at its next look at a lease. */
function standingStill(): { readonly store: ObjectStore; stand(): void; goOn(): void } {
  const { promise, resolve } = Promise.withResolvers<undefined>()
  let stands = false
  const still = new Proxy(store, {
    get: (target, name) => {
      const member: unknown = Reflect.get(target, name, target)
      if (typeof member !== 'function') return member
      return (...args: unknown[]): unknown => {
        const call = (): unknown => (member as (...args: unknown[]) => unknown).apply(target, args)
        return stands && [args[0]].flat().some((key) => String(key).startsWith(PREFIX.leases))
          ? promise.then(call)
          : call()
      }
    },
  })
  return { store: still, stand: () => (stands = true), goOn: () => resolve(undefined) }
}

const receive = async (loads: LoadService, body: Readable): Promise<void> =>
  loads.receive({ body: body as IncomingMessage }, { job: JOB, prepare: false })

async function keysOf(prefix: string): Promise<string[]> {
  const found: string[] = []
  for await (const { key } of listAll(store, prefix)) found.push(key)
  return found
}

it('a gateway that stood still takes nothing from the next load of the same id', async () => {
  const archive = await makeArchive({ names: ['t/one:1'], layers: [Buffer.from('layer')], config: {} })
  const still = standingStill()
  const [late, next] = [gateway(still.store), gateway(store)]

  // The first sends half of its archive, and its gateway stands still.
  const body = new Readable({ read: () => undefined })
  const first = receive(late.loads, body)
  first.catch(() => undefined)
  body.push(archive.subarray(0, archive.length / 2))
  await expect.poll(() => keysOf(PREFIX.data)).not.toEqual([])
  still.stand()

  // It is taken for dead, and all that it brought is collected.
  const leases = new Leases(store)
  for await (const { id, etag } of leases.listLive()) {
    expect(await leases.endUnchanged(id, etag)).toBe(true)
    await new BlobStore(store).deleteUnused(id)
  }
  await new Collector(store).collect({ dryRun: false, references: async function* () {} })
  expect(await keysOf(PREFIX.data)).toEqual([])

  // Its client sends all of it again, under the same id.
  await receive(next.loads, Readable.from([archive]))
  const arrived = await keysOf(PREFIX.data)
  expect(next.queued).toMatchObject([{ id: JOB, data: { root: JOB } }])
  expect(arrived.length).toBeGreaterThan(1)

  body.destroy(new Error('the client has left'))
  still.goOn()
  await first.catch(() => undefined)
  await late.loads.onApplicationShutdown()
  await next.loads.onApplicationShutdown()
  expect(await keysOf(PREFIX.data)).toEqual(arrived)
  expect(await leases.ofRequest(JOB)).toMatchObject({ id: next.queued[0]!.data.upload, state: 'received' })
})
