import { existsSync, rmSync, writeFileSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { join } from 'node:path'
import { StrataError } from '@strata/base'
import { afterAll, afterEach, beforeAll, expect, it, vi } from 'vitest'
import { findProgram } from '../runtime/find-program.js'
import { World } from '../testing/world.js'
import { RecordStore } from './record-store.js'

/** A runtime that deletes nothing while `broken` is there. */
let tools: string
let broken: string
let world: World
const warnings: string[] = []
beforeAll(async () => {
  tools = await mkdtemp('/var/tmp/strata-runtime-')
  broken = join(tools, 'broken')
  const runtime = join(tools, 'runc')
  writeFileSync(
    runtime,
    `#!/bin/sh
[ -e ${broken} ] && case " $* " in *" delete "*) echo the disk has a fault >&2; exit 1;; esac
exec ${findProgram('runc')} "$@"
`,
    { mode: 0o755 },
  )
  world = await World.make({ runtime, warn: (message) => warnings.push(message) })
})
afterEach(() => vi.restoreAllMocks())
afterAll(async () => {
  expect(await world.end()).toEqual([])
  rmSync(tools, { recursive: true })
})

const folderOf = (id: string): string => join(world.options.folder, id)
const LEFT: readonly (readonly [string, (id: string) => Promise<void> | void])[] = [
  ['whose removal was interrupted', (id) => new RecordStore(world.options.folder).bury(id)],
  ['that has no record', (id) => rmSync(folderOf(id), { recursive: true })],
]
const FAULTS: readonly (readonly [string, () => () => void])[] = [
  [
    'the runtime cannot delete',
    () => {
      writeFileSync(broken, '')
      return () => rmSync(broken)
    },
  ],
  [
    'has a root that is in use',
    () => {
      vi.spyOn(world.options.roots, 'unmount').mockRejectedValue(new StrataError('in_use', 'a process works in it'))
      return () => vi.restoreAllMocks()
    },
  ],
]

it.each(LEFT.flatMap(([what, leave]) => FAULTS.map(([fault, breakIt]) => ({ what, fault, leave, breakIt }))))(
  'a container $what and that $fault stops no start; the next one takes it away',
  async ({ leave, breakIt }) => {
    const id = await world.start(['sleep', '1000'])
    await world.containers.close()
    await leave(id)
    const mend = breakIt()
    await world.restart()
    expect(world.containers.list()).toEqual([])
    expect(warnings.splice(0)).toEqual([expect.stringContaining(id.slice(0, 12)) as string])
    expect(existsSync(join(world.folder, 'roots', id))).toBe(true)

    mend()
    await world.restart()
    expect(warnings.splice(0)).toEqual([])
    expect(existsSync(join(world.folder, 'roots', id))).toBe(false)
    expect(existsSync(folderOf(id))).toBe(false)
    expect(world.leaks()).toEqual([])
    expect(await world.run(['echo', 'on'])).toMatchObject({ code: 0, stdout: 'on\n' })
  },
)
