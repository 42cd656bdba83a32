import type { IntakeLimits, IntakeProgress } from '../receive-options.js'
import type { LayerIndexed } from '../threads/messages.js'
import type { ReaderSession } from '../threads/readers.js'

/**
 * How an archive's bytes come in. Whatever the way, the same archive comes to the same objects,
 * list and errors.
 */
export interface Source {
  /** Aborted, with the error to reject with, when there will be no more bytes. */
  readonly interrupted: AbortSignal | undefined
  /**
   * Brings the archive in, in turns of the session; when it settles, no thread works on it any
   * more. The caller closes the session.
   */
  take(session: ReaderSession, task: Task): Promise<Taken>
}

/** What a source needs of the session that it works for. */
export interface Task {
  readonly keyPrefix: string
  /**
   * Where the upload's objects lie, for the writing thread; `small` is there already. Empty: the
   * store is no folder, there is no such thread, and `write` writes.
   */
  readonly folder: string
  /**
   * Reads the ring as its writer, for one turn, where there is no thread for that; else there is
   * nothing to do. Resolves, never rejects, when the turn is over or all has failed.
   */
  write(ring: SharedArrayBuffer): Promise<void>
  readonly limits: IntakeLimits
  /** The body is one file, kept as it came (`unpackingOf`): no archive is looked for in it. */
  readonly whole: boolean
  /** Aborted by the first thing that goes wrong, whatever it is. */
  readonly stop: AbortSignal
  fail(error: unknown): void
  /** Resolves, never rejects, when the index is in the store or all has failed. */
  keepIndex(index: LayerIndexed): Promise<void>
  report(progress: IntakeProgress): void
  /** Told what is waited for, where that takes long, and `undefined` when it is over. */
  readonly waiting: (step: string | undefined) => void
}

export interface Taken {
  /** Names of the objects that files of their own went to. */
  readonly large: readonly string[]
  readonly listing: Uint8Array
  readonly entries: number
  /** As they travelled. */
  readonly bytes: number
}
