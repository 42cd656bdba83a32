import { digestOf } from '@strata/oci'
import { expect, it } from 'vitest'
import { BlobStore } from './blobs.js'
import { Collector } from './collector.js'
import { Leases } from '../leases/leases.js'
import { collectorSuite } from '../testing/collector-suite.js'
import { counted } from '../testing/counted-store.js'
import { temporaryStore, withoutAbilities } from '../testing/temporary-store.js'

const none = () => Promise.resolve([])

collectorSuite('a folder', async () => ({ ...(await temporaryStore()), leftovers: none }))

collectorSuite('a store with the verbs alone', async () => {
  const { store, dispose } = await temporaryStore()
  return { store: withoutAbilities(store), dispose, leftovers: none }
})

it('lists a blob that is needed twice, and its bytes once, and reads its record once', async () => {
  const { store: folder, dispose } = await temporaryStore()
  const { store, calls } = counted(folder)
  try {
    const contents = Array.from({ length: 20 }, (_, n) => Buffer.from(`blob ${n}`))
    const digests = contents.map((bytes) => digestOf(bytes))
    const cost = async () => {
      calls()
      await new Collector(store).collect({
        dryRun: false,
        references: async function* () {
          await Promise.resolve()
          yield* digests
        },
      })
      const { listed = 0, read = 0 } = calls()
      return { listed, read }
    }
    const empty = await cost()
    const leases = new Leases(store)
    const run = await leases.create('u', { job: { kind: 'push', id: 'u' }, request: {} })
    for (const [at, bytes] of contents.entries()) await new BlobStore(store).add(digests[at]!, bytes, 'u')
    await leases.endBy(run, 'done')
    // The first one takes the ended holder away.
    await cost()
    const full = await cost()
    const many = contents.length
    expect(full).toEqual({ listed: empty.listed + 3 * many, read: empty.read + many })
  } finally {
    await dispose()
  }
})
