import { randomInt } from 'node:crypto'
import { appendFileSync } from 'node:fs'
import { join } from 'node:path'
import { StrataUnderTest, until } from '@strata/e2e/testing'
import { TestS3 } from '@strata/store/testing'
import { expect, it } from 'vitest'
import { RegistryChurn } from './registry-churn.js'
import { onEachStore } from './testing/each-store.js'

/** An hour of it, and with a seed, by `npm run soak-registry -- --minutes 60 --seed 1`. */
const MINUTES = process.env['STRATA_SOAK_MINUTES']
const SEED = Number(process.env['STRATA_SOAK_SEED'] ?? randomInt(2 ** 31))
const DEFAULT_MINUTES = { folder: 2, minio: 0.5 } as const
/** So short that collections take what clients leave, and longer than this machine stalls. */
const [EXPIRY_MS, HOLD_MS] = [8_000, 8_000]

onEachStore('on %s', (store) => {
  const minutes = Number(MINUTES ?? DEFAULT_MINUTES[store])
  it(
    'eight clients of the registry push, pull, delete and collect at random through two gateways: nothing reachable is ever gone, nothing else stays',
    async () => {
      console.log(`${store}: the seed is ${SEED} (STRATA_SOAK_SEED)`)
      const s3 = store === 'minio' ? await TestS3.start('minio', '/var/tmp') : undefined
      const strata = await StrataUnderTest.start({
        topology: 'processes',
        store: s3 ?? 'folder',
        // Without a node no gateway is ready.
        groups: [['gateway', 'storage', 'extractor', 'runtime']],
        environment: {
          STRATA_PUSH_EXPIRY_MS: String(EXPIRY_MS),
          STRATA_PUSH_HOLD_MS: String(HOLD_MS),
          STRATA_SWEEP_INTERVAL_MS: '500',
          // What is pushed here is no tar.
          STRATA_INDEX_ON_PUSH: 'false',
        },
      })
      try {
        const second = join(strata.folder, 'second.sock')
        await strata.startGroup(['gateway'], false, { name: 'second', environment: { STRATA_SOCKET: second } })
        await until(
          async () => (await strata.health('gateway', 'ready', 'second').catch(() => undefined))?.status === 200,
          'two gateways',
        )
        const gateways = [strata.socket, second]
        const churn = new RegistryChurn(strata, { seed: SEED, minutes, gateways, expiryMs: EXPIRY_MS, holdMs: HOLD_MS })
        const { done, problems } = await churn.run()
        expect(problems, `seed ${SEED}`).toEqual([])
        expect(await churn.finish(), `seed ${SEED}`).toEqual([])
        told({ store, minutes, seed: SEED, done })
      } finally {
        await strata.dispose()
        await s3?.remove()
      }
    },
    minutes * 60_000 + 600_000,
  )
})

/** For people, and for the table of run.mjs. */
function told(result: Record<string, unknown>): void {
  const line = JSON.stringify(result)
  console.log(line)
  if (process.env['STRATA_FAULT_RESULTS'] !== undefined)
    appendFileSync(process.env['STRATA_FAULT_RESULTS'], `${line}\n`)
}
