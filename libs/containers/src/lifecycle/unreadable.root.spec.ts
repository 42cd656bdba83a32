import {
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { mkfifo } from '@strata/linux'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { Containers } from '../containers.js'
import { World } from '../testing/world.js'

let world: World
let warnings: string[]
beforeAll(async () => {
  world = await World.make({ collectMs: 50, warn: (message) => warnings.push(message) })
})
beforeEach(() => (warnings = []))
afterAll(async () => {
  expect(await world.end()).toEqual([])
})

const LOOP = ['sh', '-c', 'echo ran >> /ran; echo ran; while :; do sleep 60; done']
const folderOf = (id: string): string => join(world.options.folder, id)
const recordOf = (id: string): string => join(folderOf(id), 'container.json')
/** Stops the service, has something happen to its files, and starts it again. */
async function around(work: () => void): Promise<void> {
  await world.containers.close()
  work()
  world.containers = await Containers.open(world.options)
}
const isAlive = (pid: number): boolean => existsSync(`/proc/${pid}`)

/** What may lie where a file was. */
const DAMAGE: readonly (readonly [string, (path: string) => void])[] = [
  ['no bytes', (path) => truncateSync(path, 0)],
  ['zeros', (path) => writeFileSync(path, Buffer.alloc(512))],
  ['garbage', (path) => writeFileSync(path, Buffer.from([0xff, 0xfe, 0x00, 0x7b, 0x22]))],
  ['half of it', (path) => truncateSync(path, Math.floor(readFileSync(path).length / 2))],
  ['other JSON', (path) => writeFileSync(path, '[1, 2, 3]')],
  [
    "another container's record",
    (path) =>
      writeFileSync(path, readFileSync(path, 'utf8').replace(/"id":"[0-9a-f]{64}"/, `"id":"${'a'.repeat(64)}"`)),
  ],
  [
    'a record of another kind',
    (path) => writeFileSync(path, readFileSync(path, 'utf8').replace(/"status":"\w+"/, '"status":"sleeping"')),
  ],
  ['a folder', (path) => (rmSync(path), mkdirSync(path))],
  ['a symbolic link', (path) => (renameSync(path, `${path}.old`), symlinkSync(`${path}.old`, path))],
  ['a link to nowhere', (path) => (rmSync(path), symlinkSync('/nowhere', path))],
  ['a pipe', (path) => (rmSync(path), mkfifo(path, 0o600))],
  ['nothing', (path) => rmSync(path)],
]

describe.each(DAMAGE)('a record with %s in its place', (_, damage) => {
  it.each([
    ['runs', LOOP],
    ['has exited', ['sh', '-c', 'echo ran >> /ran; echo ran']],
  ] as const)(
    'of a container that %s: it ends, is put aside and named, and the others are served',
    async (what, command) => {
      const other = await world.start(LOOP)
      const id = await world.start(command, {}, { name: 'taken' })
      if (what === 'has exited') await world.containers.wait(id)
      else await expect.poll(async () => (await world.output(id)).toString()).toBe('ran\n')
      const { state } = world.containers.get(id)

      await around(() => damage(recordOf(id)))
      expect(world.containers.list().map((record) => [record.id, record.state.status])).toEqual([[other, 'running']])
      expect(warnings).toEqual([expect.stringContaining(recordOf(id)) as string])
      const aside = join(world.options.folder, 'unreadable', id)
      expect(warnings[0]).toContain(aside)
      if (state.status === 'running') await expect.poll(() => isAlive(state.pid)).toBe(false)
      // What it wrote stays; whoever asks for it again does not get a second run.
      expect(readFileSync(join(world.folder, 'roots', id, 'upper/ran'), 'utf8')).toBe('ran\n')
      expect(readFileSync(join(aside, 'log/current'), 'utf8')).toContain('ran')
      await expect(world.containers.claim(id, world.claimOf({ command }))).rejects.toMatchObject({
        code: 'container_not_found',
      })
      await expect(world.containers.launch(id)).rejects.toMatchObject({ code: 'container_not_found' })
      // Its name is free, and nothing is said a second time.
      const next = await world.start(['true'], {}, { name: 'taken' })
      warnings = []
      await around(() => undefined)
      expect(warnings).toEqual([])
      expect(world.containers.list()).toHaveLength(2)
      for (const one of [other, next]) await world.containers.remove(one, { force: true })
      expect(world.leaks()).toEqual([])
    },
  )
})

describe('other files in whose place something else lies', () => {
  it.each<[string, (id: string) => void, string | undefined]>([
    [
      'the folder of a log',
      (id) => (rmSync(join(folderOf(id), 'log'), { recursive: true }), writeFileSync(join(folderOf(id), 'log'), 'x')),
      'is not a folder',
    ],
    [
      'the lock',
      () => (rmSync(join(world.options.folder, 'lock')), mkdirSync(join(world.options.folder, 'lock'))),
      undefined,
    ],
    [
      'the lock, a link',
      () => (
        rmSync(join(world.options.folder, 'lock'), { recursive: true }),
        symlinkSync('/nowhere', join(world.options.folder, 'lock'))
      ),
      undefined,
    ],
    ['a name of a pipe', () => mkdirSync(join(world.options.runFolder, '.pipe-1-1')), undefined],
    [
      'a container’s folder that is a file',
      () => writeFileSync(folderOf('b'.repeat(64)), 'x'),
      'lies below what is not a folder',
    ],
    ['a container’s folder that leads nowhere', () => symlinkSync('/nowhere', folderOf('c'.repeat(64))), undefined],
  ])('%s: the service starts and serves', async (_, damage, says) => {
    const id = await world.start(['sh', '-c', 'exit 3'])
    await world.containers.wait(id)
    await around(() => damage(id))
    expect(warnings).toEqual(says === undefined ? [] : [expect.stringContaining(says) as string])
    expect(world.containers.get(id).state).toMatchObject({ status: 'exited', code: 3 })
    expect(await world.run(['echo', 'on'])).toMatchObject({ code: 0, stdout: 'on\n' })
    await world.containers.remove(id)
  })

  it.each<[string, (bundle: string) => void]>([
    ['no bytes', (bundle) => writeFileSync(join(bundle, 'exit'), '')],
    ['garbage', (bundle) => writeFileSync(join(bundle, 'exit'), '\0\xff')],
    ['half a word', (bundle) => writeFileSync(join(bundle, 'exit'), '3x')],
    ['a folder', (bundle) => mkdirSync(join(bundle, 'exit'))],
    ['a link to itself', (bundle) => symlinkSync('exit', join(bundle, 'exit'))],
  ])('an exit file with %s in its place: the code is unknown', async (_, damage) => {
    const id = await world.start(['sh', '-c', 'exit 3'])
    await world.containers.wait(id)
    // As if nobody had seen it end.
    const record = JSON.parse(readFileSync(recordOf(id), 'utf8')) as object
    await expect.poll(() => existsSync(join(world.options.runFolder, 'bundles', id))).toBe(false)
    await around(() => {
      writeFileSync(
        recordOf(id),
        JSON.stringify({ ...record, state: { status: 'running', pid: 1, startedAt: new Date().toISOString() } }),
      )
      mkdirSync(join(world.options.runFolder, 'bundles', id))
      mkdirSync(join(world.options.runFolder, 'bundles', id, 'sync'))
      damage(join(world.options.runFolder, 'bundles', id))
    })
    expect(world.containers.get(id).state).toMatchObject({ status: 'exited', code: 255 })
    expect(warnings).toEqual([])
    await world.containers.remove(id)
  })

  it('a folder of the service that is a file: one sentence says which, and what to do', async () => {
    const removed = join(world.options.folder, 'removed')
    await world.containers.close()
    renameSync(removed, `${removed}.real`)
    writeFileSync(removed, '')
    await expect(Containers.open(world.options)).rejects.toMatchObject({
      message: `${removed} is not a folder, or lies below what is none: move that away, or put the folder back that was there`,
    })
    rmSync(removed)
    renameSync(`${removed}.real`, removed)
    world.containers = await Containers.open(world.options)
  })
})
