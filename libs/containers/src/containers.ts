import { StrataError } from '@strata/oci'
import type { ContainerClaim, ContainerExit, ContainerRecord, ContainerRoots } from './container.js'
import type { LogChunk, LogLimits, LogOptions } from './log-types.js'

export interface ContainersOptions {
  /** The node's id, `[a-z0-9][a-z0-9-]*`: in the names of everything made outside the data folder. */
  readonly node: string
  /** On disk: records and logs. */
  readonly folder: string
  /** On a tmpfs, `/run/strata/<node>`: bundles, runc's state, exit files. */
  readonly runFolder: string
  readonly roots: ContainerRoots
  /** The OCI runtime: an absolute path; found by name (`runc`) if left out. */
  readonly runtime?: string | undefined
  readonly conmon?: string | undefined
  readonly logLimits?: LogLimits | undefined
  /** How long an exited `autoRemove` container is kept for a `wait` or `logs` that has not come yet. Default 10 s. */
  readonly collectMs?: number | undefined
  /** Told of what went wrong where no caller is there to be told. */
  readonly warn?: ((message: string) => void) | undefined
}

/**
 * The containers of one node: records on disk, processes under runc and conmon. One instance a node: `open` takes a lock.
 * All methods are safe to call side by side and again after a crash.
 */
export class Containers {
  /**
   * Reconciles disk, runc, conmon, mounts and cgroups, of this node only, then answers.
   * `driver_unavailable` if runc or conmon is missing, or another process serves this node.
   */
  static open(_options: ContainersOptions): Promise<Containers> {
    return Promise.reject(new StrataError('internal', 'not built yet'))
  }

  /** What a person should know at start-up (an old runc). */
  readonly warnings: readonly string[] = []

  /**
   * Makes the record of container `id` (64 hex digits), or answers the one that is there.
   * Refuses (and leaves nothing) what can be told to be wrong before an image is there: `bad_request`, `nothing_to_run`; `container_exists` if the
   * name is another's, `container_not_found` if `id` was removed.
   */
  declare claim: (id: string, claim: ContainerClaim) => Promise<ContainerRecord>
  /**
   * Start number `start` (default 1) of container `id`: answers with the record once the process runs (or has exited again).
   * At most once for a number: called again it observes, waits for a launch under way, or goes on with one that a crash interrupted.
   * `command_not_found`, `command_not_executable`, `launch_failed`: nothing ran, and the record is `exited` with 127, 126, 125; a call again says the same.
   * @param options.signal a launch not yet handed to runc stops
   */
  declare launch: (id: string, options?: { start?: number; signal?: AbortSignal }) => Promise<ContainerRecord>
  /** `container_not_found` if there is none (any more). */
  declare get: (id: string) => ContainerRecord
  /** By id, unique id prefix, or name: `container_not_found`, `container_ambiguous`. */
  declare find: (ref: string) => ContainerRecord
  /** All, in the order of their making. */
  declare list: () => ContainerRecord[]
  /** Answers when the container has exited, at once if it has. Also before it was launched. Aborted: `cancelled`. */
  declare wait: (id: string, signal?: AbortSignal) => Promise<ContainerExit>
  /** Output, also of an exited container; before it was launched too, with `follow`. Backpressure: what is not asked for is not read. */
  declare logs: (id: string, options?: LogOptions) => AsyncIterable<LogChunk>
  /** The stop signal (the request's, the image's StopSignal, TERM), then KILL after `timeoutSeconds` (default 10; 0 at once). Fine if it has exited. */
  declare stop: (id: string, options?: { timeoutSeconds?: number; signal?: string }) => Promise<ContainerExit>
  /** A signal by name (`TERM`, `SIGTERM`) or number, default KILL. `container_not_running` if it is not. */
  declare kill: (id: string, signal?: string) => Promise<void>
  /** Takes all of it away; a later `claim` of the id is refused. `container_running` unless `force`, which kills first. Fine if removed before. */
  declare remove: (id: string, options?: { force?: boolean }) => Promise<void>
  /** Told of each new record, and of each removed one (`undefined`). Answers how to stop it. */
  declare onChange: (listener: (id: string, record: ContainerRecord | undefined) => void) => () => void
  /** Lets go of everything; containers run on. */
  declare close: () => Promise<void>
}
