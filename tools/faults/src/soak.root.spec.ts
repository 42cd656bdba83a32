import { randomUUID } from 'node:crypto'
import { appendFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { churn, killAtRandom } from './churn.js'
import { onEachStore } from './testing/each-store.js'
import { archiveOf } from './testing/images.js'
import { World } from './testing/world.js'

/** An hour of each by `npm run soak -- --minutes 60` and `npm run faults -- --minutes 60`. */
const MINUTES = Number(process.env['STRATA_SOAK_MINUTES'] ?? 1)
const KILL_MINUTES = Number(process.env['STRATA_FAULT_MINUTES'] ?? 0.5)

onEachStore('on %s', (store) => {
  it(
    'eight clients load, name, remove and collect at random images that share layers: nothing reachable is ever gone, nothing else stays',
    async () => {
      const world = await World.start(store)
      try {
        const { done, problems } = await churn(world, MINUTES)
        expect(problems).toEqual([])
        await world.right('after the last client')
        expect((await world.strata.request('POST', '/v1/gc')).status).toBe(200)
        expect(await world.checker.unreachable()).toEqual([])
        await world.right('after the last collection')
        expect(await world.notLaunchable(await world.names())).toEqual([])
        told({ store, minutes: MINUTES, done, healed: Object.fromEntries(world.healed) })
      } finally {
        await world.dispose()
      }
    },
    MINUTES * 60_000 + 300_000,
  )

  it(
    'services that die at random moments while images and containers come and go: all is right afterwards',
    async () => {
      const world = await World.start(store)
      try {
        const { done, deaths, twice } = await killAtRandom(world, KILL_MINUTES)
        await world.right('after the last death')
        expect(twice).toEqual([])
        expect((await world.strata.request('POST', '/v1/gc')).status).toBe(200)
        expect(await world.checker.unreachable()).toEqual([])
        expect(await world.notLaunchable(await world.names())).toEqual([])
        expect((await world.load(await archiveOf(['t/after']), randomUUID())).status).toBe(201)
        told({ store, minutes: KILL_MINUTES, done, deaths, healed: Object.fromEntries(world.healed) })
      } finally {
        await world.dispose()
      }
    },
    KILL_MINUTES * 60_000 + 300_000,
  )
})

/** For people, and for the table of run.mjs. */
function told(result: Record<string, unknown>): void {
  const line = JSON.stringify(result)
  console.log(line)
  if (process.env['STRATA_FAULT_RESULTS'] !== undefined)
    appendFileSync(process.env['STRATA_FAULT_RESULTS'], `${line}\n`)
}
