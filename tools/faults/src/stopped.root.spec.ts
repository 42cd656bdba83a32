import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { header } from '@strata/archive/testing'
import { until } from '@strata/e2e/testing'
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest'
import { onEachStore, triesAll } from './testing/each-store.js'
import { archiveOf } from './testing/images.js'
import { World } from './testing/world.js'

/** The fault itself: longer than a job's lock (10 s) and than an upload may be silent (8 s). */
const STOPPED_MS = 15_000

onEachStore('on %s, a service that is stopped for 15 s and let go', (store) => {
  let world: World
  let second: string
  beforeAll(async () => {
    world = await World.start(store)
    second = join(world.strata.folder, 'second.sock')
    await world.strata.startGroup(['gateway'], false, {
      name: 'second gateway',
      environment: { STRATA_SOCKET: second },
    })
    await world.strata.startGroup(['ingest'], false, { name: 'second ingest' })
    await world.strata.ready()
    for (const name of ['t/base', 't/needed'])
      expect((await world.load(await archiveOf([name]), randomUUID())).status).toBe(201)
  })
  afterAll(async () => {
    world.report()
    await world.dispose()
  })
  const stopped: number[] = []
  const taken: World['orders']['taken'] = async (step) => {
    const pid = await world.orders.taken(step)
    stopped.push(pid)
    return pid
  }
  const letGo = (...pids: number[]): void => pids.forEach((pid) => process.kill(pid, 'SIGCONT'))
  // Also where a test fails before it does so: the next one needs them, and so does the end.
  afterEach(() => letGo(...stopped.splice(0)))
  const bySecond = (method: string, path: string) => world.strata.request(method, path, undefined, { socket: second })

  it('a gateway in the middle of a body, and an ingest in the middle of naming: what others did meanwhile stays', async () => {
    const [interrupted, named] = [randomUUID(), randomUUID()]
    const names = ['t/stopped:1', 't/stopped:2']
    world.orders.give('load.name-set', 'SIGSTOP')
    const load = world.load(await archiveOf(names), named)
    const ingest = await taken('load.name-set')
    world.orders.give('load.first-bytes', 'SIGSTOP')
    const body = new PassThrough()
    body.on('error', () => undefined)
    body.write(header({ name: 'big', size: 50_000_000 }))
    const answer = world.strata.request('POST', `/v1/images?job=${interrupted}`, body).then(
      ({ status }) => status,
      () => 'no answer',
    )
    const gateway = await taken('load.first-bytes')
    const longEnough = delay(STOPPED_MS)

    await until(
      async () => (await bySecond('GET', `/v1/jobs/${named}`)).json<{ state: string }>().state === 'completed',
      'the other ingest ends the load',
    )
    for (const name of names)
      expect((await bySecond('DELETE', `/v1/images/${encodeURIComponent(name)}`)).status).toBe(200)
    await until(
      async () => (await bySecond('GET', `/v1/jobs/${interrupted}`)).json<{ state: string }>().state === 'failed',
      'the upload that came no further is ended',
    )
    await longEnough
    letGo(ingest, gateway)
    body.end(Buffer.alloc(100_000))
    expect((await load).status).toBe(201)
    expect(await answer).not.toBe(201)
    expect(await world.job(interrupted)).toMatchObject({ state: 'failed', error: { code: 'upload_interrupted' } })
    await world.right('a gateway and an ingest stopped', async () =>
      (await world.names()).filter((name) => names.includes(name)).map((name) => `${name} is back`),
    )
  })

  it('a storage service between its look and its deletes: what came to be needed meanwhile stays', async () => {
    const archive = await archiveOf(['t/again'])
    expect((await world.load(archive, randomUUID())).status).toBe(201)
    expect((await world.strata.request('DELETE', '/v1/images/t%2Fagain')).status).toBe(200)
    world.orders.give('collect.references-read', 'SIGSTOP')
    const collected = world.strata.request('POST', '/v1/gc')
    const storage = await taken('collect.references-read')
    expect((await world.load(archive, randomUUID())).status).toBe(201)
    await delay(STOPPED_MS)
    letGo(storage)
    expect((await collected).status).toBe(200)
    await world.right('a storage service stopped', async () =>
      (await world.names()).includes('t/again:latest') ? [] : ['t/again is gone'],
    )
    expect(await world.notLaunchable(['t/again'])).toEqual([])
    expect((await world.strata.request('POST', '/v1/gc')).status).toBe(200)
    expect(await world.checker.unreachable()).toEqual([])
  })

  // What these wait for is in the queue and on the node.
  if (!triesAll(store)) return

  it('an ingest that waits for a layer which another has asked for meanwhile: it ends nothing', async () => {
    const job = randomUUID()
    const extractor = world.strata.pid('extractor')
    process.kill(extractor, 'SIGSTOP')
    stopped.push(extractor)
    world.orders.give('load.blobs-committed', 'SIGSTOP')
    const load = world.load(await archiveOf(['t/late:1']), job)
    const ingest = await taken('load.blobs-committed')
    await until(async () => (await world.job(job)).step === 'extracting', 'the other ingest has taken the load up')
    letGo(ingest)
    // The late run says nothing of it, so there is nothing to wait for but the end of the good one.
    letGo(extractor)
    expect((await load).status).toBe(201)
    await world.right('an ingest stopped before it asks for layers', async () =>
      (await world.names()).includes('t/late:1') ? [] : ['the image is not there'],
    )
  })

  it('an extractor before it names a layer, and a runtime before it starts a process', async () => {
    const { token, body } = world.witness.container('t/base')
    world.orders.give('launch.created', 'SIGSTOP')
    const launched = world.strata.request('POST', '/v1/containers', { ...body, name: 'stopped' })
    const pids = [await taken('launch.created')]
    world.orders.give('extract.renaming', 'SIGSTOP')
    const extracted = world.load(await archiveOf(['t/extracted']), randomUUID())
    pids.push(await taken('extract.renaming'))

    await delay(STOPPED_MS)
    letGo(...pids)
    expect((await launched).status).toBe(201)
    expect((await extracted).status).toBe(201)
    await world.right('an extractor and a runtime stopped', () =>
      Promise.resolve(world.witness.times(token) === 1 ? [] : [`the process ran ${world.witness.times(token)} times`]),
    )
    expect(await world.notLaunchable(await world.names())).toEqual([])
  })
})
