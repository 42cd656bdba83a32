import { migrate, type Migration, type VersionedPlace } from '@strata/base'
import type { ObjectStore } from './object-store.js'
import { UsedIds } from '../leases/used-ids.js'

/**
 * What the versions of a store are, and how each is made of the one before (laws: `Migration` of
 * `@strata/base`).
 *
 * | version | since | what it has that the one before lacks |
 * | ---     | ---   | --- |
 * | 1       |       | what commit d5153a4 writes |
 * | 2       | 0.1   | every id with bytes below `data/` has a mark `used/<id>`, and `used/_all` says so |
 *
 * Whatever is built once from what is there, for code that then relies on it, is a row here.
 */
const STORE_MIGRATIONS: readonly Migration<ObjectStore>[] = [
  {
    does: 'the ids of uploads that have bytes are marked as used',
    // An id without a mark is looked for by a list until then.
    mayWait: true,
    run: (store) => new UsedIds(store).markAll(),
  },
]

/** @throws StrataError `data_newer` */
export function migrateStore(
  place: VersionedPlace,
  store: ObjectStore,
  tell: (message: string) => void,
): Promise<void> {
  return migrate(place, STORE_MIGRATIONS, store, { tell })
}
