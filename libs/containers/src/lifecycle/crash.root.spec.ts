import { readFile } from 'node:fs/promises'
import { mkfifo } from '@strata/linux'
import { StrataError } from '@strata/base'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { Cgroups } from '../runtime/cgroups.js'
import type { ContainerRecord } from '../container.js'
import { Containers } from '../containers.js'
import { findProgram } from '../runtime/find-program.js'
import { killMonitors, Launcher } from './launcher.js'
import { Monitor } from '../runtime/monitor.js'
import { RecordStore } from './record-store.js'
import { Runc } from '../runtime/runc.js'
import { World } from '../testing/world.js'

/**
 * What the service does in a launch, step by step, so that it can "die" after each. Its next start
 * is `Containers.open`.
 */
let world: World
let store: RecordStore
let driver: Runc
let launcher: Launcher
let bootId: string
beforeAll(async () => {
  world = await World.make({ collectMs: 50 })
  const { node, folder, runFolder, roots } = world.options
  store = new RecordStore(folder)
  driver = new Runc(findProgram('runc'), join(runFolder, 'runc'), runFolder)
  launcher = new Launcher(
    driver,
    findProgram('conmon'),
    roots,
    new Cgroups(`strata-${node}`),
    join(runFolder, 'bundles'),
    2 ** 30,
  )
  bootId = (await readFile('/proc/sys/kernel/random/boot_id', 'latin1')).trim()
})
afterAll(async () => {
  expect(await world.end()).toEqual([])
})

let record: ContainerRecord
/** Each process that ever ran left a line in the writable root's `ran`. */
const LOOP = ['sh', '-c', 'echo ran >> /ran; echo ran; while :; do sleep 60; done']
const QUICK = ['sh', '-c', 'echo ran >> /ran; echo ran; exit 5']

async function begin(command: readonly string[]): Promise<void> {
  const id = await world.claim(command)
  const claimed = world.containers.get(id)
  await world.containers.close()
  record = { ...claimed, starts: 1, bootId }
  await store.save(record, { durable: true })
}
const prepare = () => launcher.prepare(record, store.folderOf(record.id))
const log = () => join(store.folderOf(record.id), 'log/current')
const bundle = () => launcher.bundleOf(record.id)
const spawn = () =>
  Monitor.spawn({ conmon: findProgram('conmon'), driver, id: record.id, bundle: bundle(), log: log() })
const reopen = async (): Promise<void> => {
  world.containers = await Containers.open(world.options)
}
const timesRun = async (): Promise<number> => (await world.output(record.id)).toString().split('ran\n').length - 1
/** Until the process has written its line. */
async function heard(): Promise<void> {
  for await (const chunk of world.containers.logs(record.id, { follow: true }))
    if (chunk.bytes.includes('ran\n')) return
}

describe('a service that dies', () => {
  afterEach(async () => {
    for (const { id } of world.containers.list()) await world.containers.remove(id, { force: true })
    expect(world.leaks()).toEqual([])
  })

  describe('before the runtime has the container: the next launch of that number runs it', () => {
    beforeEach(() => begin(QUICK))
    afterEach(async () => {
      await reopen()
      expect(world.containers.get(record.id).state).toEqual({ status: 'created' })
      await world.containers.launch(record.id)
      expect(await world.containers.wait(record.id)).toEqual({ code: 5 })
      expect(await timesRun()).toBe(1)
    })

    it('with only the number on disk', () => undefined)

    it('with root and bundle made', prepare)

    it("with the monitor's pipe made", async () => {
      await prepare()
      mkfifo(join(bundle(), 'sync'), 0o600)
    })

    it('with a monitor killed before the runtime had it', async () => {
      await prepare()
      const ended = spawn().ended.then(() => 'ended')
      // Again until it has ended: a program that begins has no command line yet, by which it is
      // known.
      while ((await Promise.race([ended, killMonitors(bundle())])) !== 'ended');
      // The runtime that it had begun to run may come to its end all the same; its process would
      // wait for a start that nobody gives.
      while (world.leaks().some((leak) => leak.startsWith('process') && leak.includes(' create ')))
        await new Promise((resolve) => setImmediate(resolve))
      await driver.delete(record.id)
    })
  })

  it('with a pipe whose name it had not taken away yet', async () => {
    await world.containers.close()
    mkfifo(join(world.options.runFolder, '.pipe-1-0'), 0o600)
    await reopen()
  })

  describe('when the runtime has the container: the next start leaves it to who has its launch', () => {
    beforeEach(async () => {
      await begin(LOOP)
      await prepare()
    })
    const createdIsLeft = async (): Promise<void> => {
      await reopen()
      expect(world.containers.get(record.id).state).toEqual({ status: 'created' })
    }
    const created = async (): Promise<void> => {
      const monitor = spawn()
      await monitor.created
      monitor.release()
    }

    it('while it creates it', async () => {
      spawn().release()
      await createdIsLeft()
      await world.containers.launch(record.id)
      await heard()
      await world.containers.stop(record.id, { timeoutSeconds: 0 })
      expect(await timesRun()).toBe(1)
    })

    it('between created and start', async () => {
      await created()
      await createdIsLeft()
      await world.containers.launch(record.id)
      await heard()
      await world.containers.stop(record.id, { timeoutSeconds: 0 })
      expect(await timesRun()).toBe(1)
    })

    it('which has lost it: it stays for the next', async () => {
      await created()
      await createdIsLeft()
      const lost = new Error('another has it')
      await expect(world.containers.launch(record.id, { assertOwned: () => Promise.reject(lost) })).rejects.toBe(lost)
      expect((await driver.state(record.id))?.status).toBe('created')
      await world.containers.launch(record.id)
      await heard()
      await world.containers.stop(record.id, { timeoutSeconds: 0 })
      expect(await timesRun()).toBe(1)
    })

    it('which gives it up: it never runs', async () => {
      await created()
      await createdIsLeft()
      await world.containers.giveUp(record.id, new StrataError('node_unavailable', 'its request has ended'))
      expect(await world.containers.wait(record.id)).toEqual({
        code: 125,
        reason: 'its request has ended',
        error: 'node_unavailable',
      })
      expect(world.leaks()).toEqual([])
      expect(await timesRun()).toBe(0)
    })
  })

  it('after start, before it is written down', async () => {
    await begin(LOOP)
    await prepare()
    const { monitor, pid } = await launcher.run(record, log())
    monitor.release()
    await reopen()
    expect(world.containers.get(record.id).state).toMatchObject({ status: 'running', pid })
    await heard()
    await world.containers.kill(record.id)
    expect(await world.containers.wait(record.id)).toEqual({ code: 137 })
    expect(await timesRun()).toBe(1)
  })

  it('behind its number: a start that another request asks for waits for the launch', async () => {
    await begin(QUICK)
    await store.save({ ...record, job: 'launch' }, { durable: true })
    await reopen()
    expect(await world.containers.begin(record.id, { number: 1, job: 'start', attached: false })).toBe('busy')
    await world.containers.launch(record.id)
    expect(await world.containers.wait(record.id)).toEqual({ code: 5 })
    expect(await world.containers.begin(record.id, { number: 1, job: 'start', attached: false })).toBe('done')
    expect(await timesRun()).toBe(1)
  })

  it('while it runs to its end: the exit code is there', async () => {
    await begin(QUICK)
    await prepare()
    const { monitor } = await launcher.run(record, log())
    await monitor.ended
    await reopen()
    await world.containers.launch(record.id)
    expect(await world.containers.wait(record.id)).toEqual({ code: 5 })
    expect(await timesRun()).toBe(1)
  })

  it('after the end was written down, before it was cleaned', async () => {
    await begin(QUICK)
    await prepare()
    await (
      await launcher.run(record, log())
    ).monitor.ended
    await store.save({ ...record, state: { status: 'exited', code: 5, finishedAt: '' } }, { durable: false })
    await reopen()
    expect(world.leaks()).toEqual([])
    expect(await timesRun()).toBe(1)
  })

  it('with a monitor that was killed when the container was created: it never runs', async () => {
    await begin(QUICK)
    await prepare()
    const monitor = spawn()
    await monitor.created
    await killMonitors(bundle())
    await monitor.ended
    await reopen()
    await world.containers.launch(record.id)
    expect(await world.containers.wait(record.id)).toEqual({ code: 125, reason: 'start interrupted' })
    expect(await timesRun()).toBe(0)
  })

  it('with a monitor that was killed while the container ran: it is ended and not started again', async () => {
    await begin(LOOP)
    await prepare()
    const { monitor } = await launcher.run(record, log())
    await killMonitors(bundle())
    await monitor.ended
    await reopen()
    await world.containers.launch(record.id)
    expect(await world.containers.wait(record.id)).toEqual({ code: 125, reason: 'start interrupted' })
  })

  it('in another boot: what was started is not started again', async () => {
    await begin(QUICK)
    await store.save({ ...record, bootId: 'other' }, { durable: true })
    await reopen()
    await world.containers.launch(record.id)
    expect(await world.containers.wait(record.id)).toEqual({ code: 125, reason: 'start interrupted' })
    expect(await timesRun()).toBe(0)
  })

  describe('in a start of a container that was there', () => {
    /** Up to the number of the start on disk. */
    async function beginStart(more: Partial<ContainerRecord> = {}): Promise<void> {
      const id = await world.create(QUICK)
      const waits = world.containers.get(id)
      await world.containers.close()
      record = {
        ...waits,
        job: 'start',
        starts: 1,
        bootId,
        idle: { state: { status: 'created' }, starts: 0 },
        ...more,
      }
      await store.save(record, { durable: true })
    }
    const start = { number: 1, job: 'start', attached: false }

    it.each<[string, () => Promise<void>]>([
      ['with only the number on disk', () => Promise.resolve()],
      ['with root and bundle made', prepare],
      [
        'between created and start',
        async () => {
          await prepare()
          const monitor = spawn()
          await monitor.created
          monitor.release()
        },
      ],
    ])('%s: its request runs it, once', async (_, die) => {
      await beginStart()
      await die()
      await reopen()
      expect(world.containers.get(record.id).state).toEqual({ status: 'created' })
      await world.containers.launch(record.id, { start })
      expect(await world.containers.wait(record.id)).toEqual({ code: 5 })
      expect(await timesRun()).toBe(1)
    })

    it('between created and start, and nobody goes on: it waits for another start, and nothing is left', async () => {
      await beginStart()
      await prepare()
      const monitor = spawn()
      await monitor.created
      monitor.release()
      await reopen()
      await world.containers.giveUp(record.id, new StrataError('node_unavailable', 'its request has ended'), 'start')
      expect(world.leaks()).toEqual([])
      expect(world.containers.get(record.id)).toMatchObject({ starts: 0, state: { status: 'created' } })
      await world.restart()
      await world.containers.launch(record.id, { start: { ...start, job: 'another' } })
      expect(await world.containers.wait(record.id)).toEqual({ code: 5 })
      expect(await timesRun()).toBe(1)
    })

    it('in another boot: what may have run is not run again; what waits still waits', async () => {
      await beginStart({ bootId: 'other' })
      await reopen()
      expect(world.containers.get(record.id).state).toMatchObject({ status: 'exited', reason: 'start interrupted' })
      await world.containers.remove(record.id)
      await beginStart({ bootId: 'other', starts: 0, job: undefined, idle: undefined })
      await reopen()
      expect(world.containers.get(record.id).state).toEqual({ status: 'created' })
    })

    it('after start, before it is written down: it runs, and another start may follow its end', async () => {
      await beginStart()
      await prepare()
      const { monitor } = await launcher.run(record, log())
      await monitor.ended
      await reopen()
      expect(await world.containers.wait(record.id)).toEqual({ code: 5 })
      await world.containers.launch(record.id, { start: { ...start, number: 2 } })
      await world.containers.wait(record.id)
      expect(await timesRun()).toBe(2)
    })
  })

  it('in a removal: the next start ends it', async () => {
    await begin(QUICK)
    await prepare()
    await (
      await launcher.run(record, log())
    ).monitor.ended
    await store.bury(record.id)
    await reopen()
    expect(world.leaks()).toEqual([])
    await expect(world.containers.claim(record.id, record)).rejects.toMatchObject({ code: 'container_not_found' })
  })

  it('with its record gone: the process is ended', async () => {
    await begin(LOOP)
    await prepare()
    const { monitor } = await launcher.run(record, log())
    monitor.release()
    await store.drop(record.id)
    await reopen()
    expect(world.leaks()).toEqual([])
  })

  it('while containers run: they run on, and the next one hears their end', async () => {
    const id = await world.start(LOOP)
    record = world.containers.get(id)
    await world.restart()
    expect(world.containers.get(id)).toEqual(record)
    await heard()
    await world.containers.kill(id)
    expect(await world.containers.wait(id)).toEqual({ code: 137 })
    expect((await world.output(id)).toString()).toBe('ran\n')
  })

  it('a monitor that is killed under a living service ends its container', async () => {
    const id = await world.start(LOOP)
    record = world.containers.get(id)
    await killMonitors(launcher.bundleOf(id))
    expect(await world.containers.wait(id)).toEqual({
      code: 255,
      reason: 'its monitor was killed, so its process was too',
    })
  })

  it('before an autoRemove container was removed: the next one does it', async () => {
    const id = await world.claim(['true'], {}, { autoRemove: true })
    record = world.containers.get(id)
    await world.containers.close()
    await store.save(
      { ...record, starts: 1, bootId, state: { status: 'exited', code: 0, finishedAt: '' } },
      { durable: false },
    )
    await reopen()
    const isThere = (): boolean => world.containers.list().some((one) => one.id === id)
    await new Promise<void>((resolve) => {
      world.containers.onChange((changed, now) => changed === id && !now && resolve())
      // It may have been removed before the service had started to its end.
      if (!isThere()) resolve()
    })
  })
})
