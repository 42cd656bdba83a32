import { collectorSuite } from '../testing/collector-suite.js'
import { temporaryStore, withoutAbilities } from '../testing/temporary-store.js'

const none = () => Promise.resolve([])

collectorSuite('a folder', async () => ({ ...(await temporaryStore()), leftovers: none }))

collectorSuite('a store with the verbs alone', async () => {
  const { store, dispose } = await temporaryStore()
  return { store: withoutAbilities(store), dispose, leftovers: none }
})
