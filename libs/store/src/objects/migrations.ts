import { migrate, type Migration, type VersionedPlace } from '@strata/base'
import type { ObjectStore } from './object-store.js'
import { UsedIds } from '../leases/used-ids.js'

/**
 * The versions of a store, and how each is made from the one before (laws: `Migration` of
 * `@strata/base`).
 *
 * | version | since | what it has that the one before lacks |
 * | ---     | ---   | --- |
 * | 1       |       | what commit d5153a4 writes |
 * | 2       | 0.1   | every id with bytes below `data/` has a mark `used/<id>`, and `used/_all` says so |
 * | 3       | 0.1   | a blob's record may be pending (decision 59), and may name pieces (decision 60) |
 * | 4       | 0.1   | the id of a lease is not that of its request (decision 80) |
 * | 5       | 0.1   | a key of a blob may be marked as deleted (decision 82); leases may be holds (93) |
 *
 * Data that is built once from what a store already has, and that code then relies on, is a row
 * here. So is a form that an older release would read wrongly.
 */
const STORE_MIGRATIONS: readonly Migration<ObjectStore>[] = [
  {
    does: 'the ids of uploads that have bytes are marked as used',
    // Until then, `UsedIds.claim` also lists the bytes of the id.
    mayWait: true,
    run: (store) => new UsedIds(store).markAll(),
  },
  {
    does: 'records of blobs may be pending and name pieces from here on',
    mayWait: true,
    // Nothing that is there changes. The version keeps older services off.
    run: () => Promise.resolve(),
  },
  {
    does: 'the id of a lease is not that of its request from here on',
    mayWait: true,
    // Nothing that is there changes. The version keeps older services off: they take the id of a
    // lease for that of its request, and would run it twice.
    run: () => Promise.resolve(),
  },
  {
    does: 'keys of blobs may be marked as deleted from here on, and leases may be holds',
    mayWait: true,
    // Nothing that is there changes. The version keeps older services off: they do not see the
    // mark, and would serve a blob that a client has deleted. They end a hold as an upload.
    run: () => Promise.resolve(),
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
