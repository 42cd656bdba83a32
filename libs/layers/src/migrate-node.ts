import { migrate, type Migration, type VersionedPlace } from '@strata/base'

/**
 * What the versions of a node's folder are, and how each is made of the one before (laws:
 * `Migration` of `@strata/base`). Version 1 is what commit d5153a4 makes.
 *
 * The table lies here because this library is what both services of a node have in common: each
 * brings the folder to its version, whichever starts first.
 */
const NODE_MIGRATIONS: readonly Migration<string>[] = [
  {
    // Releases of version 1 would end a container that waits, and not undo a start that died.
    does: 'containers may wait for a start, and be started again',
    mayWait: true,
    run: () => Promise.resolve(),
  },
]

/** @throws StrataError `data_newer` */
export function migrateNode(place: VersionedPlace, folder: string, tell: (message: string) => void): Promise<void> {
  return migrate(place, NODE_MIGRATIONS, folder, { tell })
}
