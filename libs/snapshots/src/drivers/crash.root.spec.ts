import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { concat, file, ZEROS } from '@strata/archive/testing'
import { makePrivateMount, MNT_DETACH, umount } from '@strata/linux'
import { expect, it } from 'vitest'
import { Layout } from '../bookkeeping/layout.js'
import { leftoversOf, readTree, storeLayer } from '../testing/index.js'
import { driverRow, VARIANTS } from './drivers.js'
import { openSnapshotter } from './open-snapshotter.js'

/** A process of its own that assembles the stack and says so. */
const ASSEMBLE = `
  const [module, folder, variant, layers] = process.argv.slice(1)
  const { openSnapshotter } = await import(module)
  const snapshots = await openSnapshotter(folder, JSON.parse(variant))
  await snapshots.assemble(JSON.parse(layers))
  console.log('assembled')
`
const MODULE = new URL('../../dist/drivers/open-snapshotter.js', import.meta.url).href

it.each(VARIANTS.map((variant) => [variant.title, variant] as const))(
  '%s: a process killed at work leaves nothing that the next start does not mend',
  async (_, variant) => {
    const base = makePrivateMount(mkdtempSync('/var/tmp/strata-crash-'))
    const folder = join(base, 'driver')
    const layout = new Layout(folder, driverRow(variant.driver).folders)
    mkdirSync(join(base, 'layers'))
    const stack = Array.from({ length: 8 }, (_layer, n) =>
      storeLayer(
        join(base, 'layers'),
        concat(...Array.from({ length: 500 }, (_file, m) => file(`${n}/${m}`, `${m}`)), ZEROS),
      ),
    )
    const args = ['--input-type=module', '-e', ASSEMBLE, MODULE, folder, JSON.stringify(variant), JSON.stringify(stack)]
    try {
      // Each is killed a step later than the one before: as work begins, a layer later, …, when it
      // has just said that it is done.
      for (let step = 0; step < 4; step++) {
        const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
        const gone = once(child, 'exit')
        const done = new AbortController()
        child.stdout.once('data', () => done.abort())
        child.once('exit', () => done.abort())
        const seen = (): number => {
          try {
            return layout.unfinished().flatMap((path) => [path, ...readdirSync(path, { recursive: true })]).length
          } catch {
            return 0
          }
        }
        while (!done.signal.aborted && (step === 3 || seen() <= step * 3)) await setImmediate()
        child.kill('SIGKILL')
        await gone
      }
      const [next, other] = await Promise.all([openSnapshotter(folder, variant), openSnapshotter(folder, variant)])
      expect(layout.unfinished()).toEqual([])
      const chainId = await next.assemble(stack)
      expect(readTree(await other.root(chainId))).toHaveLength(1 + 8 * 501)
      await next.removeRoot(chainId)
      for (const one of [next, other]) await one.close()
      expect(await leftoversOf(layout)).toEqual([])
    } finally {
      umount(base, MNT_DETACH)
      rmSync(base, { recursive: true })
    }
  },
)

it('processes that assemble one stack at the same time make it once', async () => {
  const base = makePrivateMount(mkdtempSync('/var/tmp/strata-crash-'))
  const folder = join(base, 'driver')
  const overlay = VARIANTS.find(({ driver }) => driver === 'overlay')
  mkdirSync(join(base, 'layers'))
  const stack = Array.from({ length: 4 }, (_layer, n) =>
    storeLayer(
      join(base, 'layers'),
      concat(...Array.from({ length: 200 }, (_file, m) => file(`${n}/${m}`, `${m}`)), ZEROS),
    ),
  )
  const args = ['--input-type=module', '-e', ASSEMBLE, MODULE, folder, JSON.stringify(overlay), JSON.stringify(stack)]
  try {
    const exits = Array.from({ length: 3 }, () =>
      once(spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'inherit'] }), 'exit'),
    )
    expect((await Promise.all(exits)).map(([code]) => code as number)).toEqual([0, 0, 0])
    expect([
      readdirSync(join(folder, 'roots')).length,
      readdirSync(join(folder, 'layers')).length,
      readdirSync(join(folder, 'tmp')).length,
    ]).toEqual([1, 4, 0])
  } finally {
    umount(base, MNT_DETACH)
    rmSync(base, { recursive: true })
  }
})
