import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeEach, expect } from 'vitest'
import { settledStore } from './store-state.js'
import type { StrataUnderTest } from './strata.js'
import { SERVICES } from './topology.js'

/** More than this above where a process stood is not flat: bytes. */
const FLAT = 300 * 1024 * 1024

/**
 * What no attack may do, looked at around every test of the `describe` (or file) that calls this: a
 * folder outside of every root stays as it is to the last bit, the memory of no service rises, and
 * afterwards nothing unfinished is in the store, nor half made on the node. Gives the folder, which
 * has a file `canary`.
 */
export function guarded(strata: () => StrataUnderTest): string {
  const outside = mkdtempSync('/var/tmp/strata-canary-')
  writeFileSync(join(outside, 'canary'), 'alive')
  chmodSync(outside, 0o700)
  const untouched = stateOf(outside)
  const before = new Map<number, number>()
  beforeEach(() => {
    before.clear()
    for (const pid of new Set(SERVICES.map((service) => strata().pid(service)))) {
      writeFileSync(`/proc/${pid}/clear_refs`, '5')
      before.set(pid, memory(pid, 'VmRSS'))
    }
  })
  afterEach(async () => {
    expect(stateOf(outside)).toEqual(untouched)
    // A test may have killed one.
    for (const [pid, rss] of before)
      if (existsSync(`/proc/${pid}/status`)) expect(memory(pid, 'VmHWM') - rss, `memory of ${pid}`).toBeLessThan(FLAT)
    await settledStore(strata())
    for (const folder of ['layers/tmp', 'snapshots/tmp']
      .map((path) => join(strata().node.folder, path))
      .filter(existsSync))
      await expect.poll(() => readdirSync(folder), { message: folder }).toEqual([])
  })
  afterAll(() => rmSync(outside, { recursive: true }))
  return outside
}

function stateOf(folder: string): string[] {
  const { mode, mtimeMs } = lstatSync(folder)
  return [
    `${mode} ${mtimeMs}`,
    ...readdirSync(folder).map(
      (name) =>
        `${name} ${lstatSync(join(folder, name)).mode} ${lstatSync(join(folder, name)).nlink} ${readFileSync(join(folder, name), 'utf8')}`,
    ),
  ]
}

function memory(pid: number, field: 'VmRSS' | 'VmHWM'): number {
  return 1024 * Number(new RegExp(`${field}:\\s+(\\d+) kB`).exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1])
}
