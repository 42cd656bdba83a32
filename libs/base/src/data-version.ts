import { StrataError } from './errors.js'
import { failpoint } from './failpoint.js'

/**
 * The version of the data in one place. Every place notes its own: the data folder, the store, a
 * node's folder, Redis.
 *
 * A version is a whole number, from `FIRST_VERSION` on. A place without a note has that version: it
 * is empty, or was written by a release from before there were notes (commit d5153a4).
 */
export interface VersionedPlace {
  /** For messages: `the node folder /var/lib/strata/node`. */
  readonly what: string
  /**
   * `undefined` if there is no note. @throws StrataError `corrupt`, an error of the place itself
   */
  read(): Promise<number | undefined>
  /** Notes a version, durably. */
  write(version: number): Promise<void>
  /**
   * Runs `work` while no other process runs its own for this place. It waits for that as long as it
   * takes. The lock of a process that died is taken over.
   */
  exclusively(work: () => Promise<void>): Promise<void>
}

/**
 * One step from a version to the next. `data` is what the migration works on: a store, a folder, a
 * connection.
 *
 * **Laws.**
 * 1. It may find any mix of old and new data, and leaves new data alone. So a process may die at
 *    any line of it, the next start runs it again, and it may run beside itself: a lock can be lost
 *    by a process that stood still.
 * 2. It reads everything that the version before wrote, or says `corrupt` of what it cannot read.
 * 3. It takes nothing away before what replaces it is written.
 * 4. It resolves when its changes would outlive a loss of power, or when what such a loss takes is
 *    found and made again by another rule (`mendTail` of a folder store).
 * 5. It passes `migrate.changed` behind each of its durable changes, so that tests can stop it.
 */
export interface Migration<T> {
  /** For the log: `ids of uploads are marked`. */
  readonly does: string
  /**
   * Services of this release also work on data that it has not seen. So a place without space is no
   * reason not to start: a collection can make room then, and the next start does the rest.
   */
  readonly mayWait: boolean
  run(data: T): Promise<void>
}

export const FIRST_VERSION = 1

/** Shorter ones are nothing to wait for: of an empty place each is done at once. */
const TOLD_AFTER_MS = 2_000

interface MigrateOptions {
  /** Gets a sentence for a migration that takes longer than 2 s, and for one that has to wait. */
  readonly tell: (message: string) => void
}

/**
 * Brings a place to the version that this release knows, at the start of a service and before it
 * uses the place. `migrations[0]` makes version 2 of version 1, and so on; without migrations only
 * the version is noted.
 *
 * Each version is noted as soon as it is reached. A process may die at any line: the next start
 * goes on with the migration that was under way.
 * @throws StrataError `data_newer` if the place has data of a newer release; nothing was changed
 */
export async function migrate<T>(
  place: VersionedPlace,
  migrations: readonly Migration<T>[],
  data: T,
  { tell }: MigrateOptions,
): Promise<void> {
  const known = FIRST_VERSION + migrations.length
  if (readable(await place.read(), place, known) === known) return
  try {
    await place.exclusively(async () => {
      failpoint('migrate.locked')
      const noted = readable(await place.read(), place, known)
      let version = noted ?? FIRST_VERSION
      for (const migration of migrations.slice(version - FIRST_VERSION)) {
        const step = `${place.what} is brought from version ${version} to ${version + 1}: ${migration.does}`
        const timer = setTimeout(() => tell(step), TOLD_AFTER_MS)
        await migration.run(data).finally(() => clearTimeout(timer))
        failpoint('migrate.ran')
        await place.write(++version)
        failpoint('migrate.noted')
      }
      if (noted === undefined && migrations.length === 0) await place.write(known)
    })
  } catch (error) {
    if (!(isOutOfSpace(error) && migrations.every(({ mayWait }) => mayWait))) throw error
    tell(`${place.what} has no space to be brought to version ${known}: the next start does that`)
  }
}

function readable(version: number | undefined, { what }: VersionedPlace, known: number): number | undefined {
  if (version === undefined || version <= known) return version
  throw new StrataError(
    'data_newer',
    `${what} has data of version ${version}, and this release of Strata knows version ${known}: ` +
      'start the release that wrote it or a newer one, or put back the backup from before the upgrade',
  )
}

function isOutOfSpace(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'storage_full' || error.code === 'ENOSPC')
}
