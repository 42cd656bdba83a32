import { whyNoTestS3 } from '@strata/store/testing'
import { describe, it } from 'vitest'
import { STORES, type TestStore } from './stores.js'

/** Services start, locks run out, stops last: a bound for a machine that does much else. */
const TIMEOUT_MS = 300_000

/**
 * Whether every fault is tried on this store: on the folder, and with `STRATA_TEST_LONG=1` on
 * each. Otherwise a bucket gets the faults that can end differently there: those that come while
 * bytes are on their way into or out of it, and its own. All other faults leave whole objects, or
 * touch the queue and the node alone. What is then done with whole objects depends on no store, for
 * each keeps the same laws (libs/store/src/testing).
 */
export function triesAll(store: TestStore['name']): boolean {
  return store === 'folder' || process.env['STRATA_TEST_LONG'] === '1'
}

/** Why the faults cannot be tried on this store here; `undefined` if they can. */
function whyNot(store: TestStore['name']): string | undefined {
  if (store === 'folder') return undefined
  return (
    whyNoTestS3('minio') ??
    (process.env['STRATA_TEST_S3'] === undefined ? undefined : 'the server that STRATA_TEST_S3 names cannot be killed')
  )
}

/**
 * The tests, on each store or on those given; where one is not to be had they are left out, with
 * the reason. `%s` in the title is the store's name. Most of the time is spent in waiting for locks
 * to run out, so the stores take it at once, unless the tests look at short times: each has
 * services, Redis and node of its own.
 */
export function onEachStore(
  title: string,
  tests: (store: TestStore['name']) => void,
  options: { stores?: readonly TestStore['name'][]; oneByOne?: boolean } = {},
): void {
  describe.each(options.stores ?? STORES)(
    title,
    { timeout: TIMEOUT_MS, concurrent: options.oneByOne !== true },
    (store) => {
      const why = whyNot(store)
      if (why === undefined) describe('all', { concurrent: false }, () => tests(store))
      else it('stands what breaks', (context) => context.skip(why))
    },
  )
}
