import type { IntakeLimits, IntakeProgress } from './intake.js'
import type { LayerIndexed } from './messages.js'
import type { WorkerPair } from './worker-pairs.js'

/** How an archive's bytes come in. Whatever the way, the same archive comes to the same objects, list and errors. */
export interface Mouth {
  /** Aborted, with the error to reject with, when there will be no more bytes. */
  readonly interrupted: AbortSignal | undefined
  /** Drives the pair until the archive is in; when it settles, neither thread works on it any more. */
  take(pair: WorkerPair, task: Task): Promise<Taken>
}

/** What a mouth needs of the reception that it works for. */
export interface Task {
  readonly keyPrefix: string
  /** Where the upload's objects lie, for the writing thread; `small` is there already. Empty: the store is no folder, there is no such thread, and `write` writes. */
  readonly folder: string
  /** Reads the ring as its writer where there is no thread for that; else there is nothing to do. Resolves, never rejects, when it is at the end or all has failed. */
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
}

export interface Taken {
  /** Names of the objects that files of their own went to. */
  readonly large: readonly string[]
  readonly listing: Uint8Array
  readonly entries: number
  /** As they travelled. */
  readonly bytes: number
}
