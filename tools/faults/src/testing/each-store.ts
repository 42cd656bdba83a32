import { whyNoTestS3 } from '@strata/store/testing'
import { describe, it } from 'vitest'
import { STORES, type TestStore } from './stores.js'

/** Services start, locks run out, stops last: a bound for a machine that does much else. */
const TIMEOUT_MS = 300_000

/** Why the faults cannot be tried on this store here; `undefined` if they can. */
function whyNot(store: TestStore['name']): string | undefined {
  if (store === 'folder') return undefined
  return whyNoTestS3('minio') ?? (process.env['STRATA_TEST_S3'] === undefined ? undefined : 'the server that STRATA_TEST_S3 names cannot be killed')
}

/** The tests, on each store or on those given; where one is not to be had they are left out, with the reason. `%s` in the title is the store's name. */
export function onEachStore(title: string, tests: (store: TestStore['name']) => void, stores: readonly TestStore['name'][] = STORES): void {
  describe.each(stores)(title, { timeout: TIMEOUT_MS }, (store) => {
    const why = whyNot(store)
    if (why === undefined) tests(store)
    else it('stands what breaks', (context) => context.skip(why))
  })
}
