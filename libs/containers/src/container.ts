import type { ErrorCode } from '@strata/base'
import type { ChainId, DiffId, Digest, ImageConfig } from '@strata/oci'
import type { LogPlace } from './log/types.js'

/** `none`: a network namespace of its own with only `lo`, up. `host`: the machine's network. */
export type Network = 'none' | 'host'

/**
 * What a caller may say about the process, over what the image's config says. Fields left out mean
 * the image's, as docker has it.
 */
export interface ContainerRequest {
  /** Replaces the image's Entrypoint and drops its Cmd. `[]` and `['']` mean none. */
  readonly entrypoint?: readonly string[] | undefined
  /** Replaces the image's Cmd. `[]` is as if left out. */
  readonly command?: readonly string[] | undefined
  /** `NAME=value` sets, a bare `NAME` removes. */
  readonly env?: readonly string[] | undefined
  /** Absolute; made inside the root if missing. */
  readonly workdir?: string | undefined
  /** `name`, `uid`, `name:group`, `uid:gid`: looked up in the root's own passwd and group. */
  readonly user?: string | undefined
  readonly hostname?: string | undefined
  readonly network?: Network | undefined
  /** The root is mounted read-only for the process. */
  readonly readOnly?: boolean | undefined
}

/** The image a container runs from. `name` is how the caller called it, for people. */
export interface ContainerImage {
  readonly name: string
  /** The config's digest. */
  readonly id: Digest
  readonly chainId: ChainId
  /** Its layers, lowest first: what the root is made of, should it have to be made again. */
  readonly layers?: readonly DiffId[]
  /** The `config` member of the image's config. */
  readonly config: ImageConfig['config']
}

/** All that `claim` needs to know; kept in the record as given. */
export interface ContainerClaim {
  readonly image: ContainerImage
  readonly request: ContainerRequest
  /** A name for people, unique on the node. */
  readonly name?: string | undefined
  /** Removed by the node once it has exited and its open `wait`s and `logs` were answered. */
  readonly autoRemove?: boolean | undefined
  /**
   * The request that is to change it next: the one that launches it, creates it or starts it. It
   * tells whether somebody still goes on with a container that is found `created`. Without one, a
   * created container waits for a start (`startedApart`).
   */
  readonly job?: string | undefined
  /**
   * Create and start are separate requests. The request that creates the container ends with
   * `ready`, and starts nothing. Default false: the request that creates it also launches it.
   */
  readonly startedApart?: boolean | undefined
  /**
   * A foreground reader will come for the output: none of it is rotated away before that reader had
   * it (up to `LogLimits.heldBytes`).
   */
  readonly attached?: boolean | undefined
}

export type ContainerState =
  | { readonly status: 'created' }
  /** `pid` is the container's first process, as the host numbers it; `startedAt` is ISO 8601. */
  | { readonly status: 'running'; readonly pid: number; readonly startedAt: string }
  /**
   * `code` is 0–255 as a shell has it (128 + signal). `reason` and `error` stand only where Strata,
   * not the process, ended it.
   */
  | {
      readonly status: 'exited'
      readonly code: number
      readonly startedAt?: string
      readonly finishedAt: string
      readonly reason?: string
      readonly error?: ErrorCode
    }

/** The states in which nothing of a container runs and none of its starts is under way. */
type IdleState = Exclude<ContainerState, { status: 'running' }>

/**
 * A container as it lies on its node's disk (`<folder>/<id>/container.json`). Immutable: every
 * change makes a new one.
 */
export interface ContainerRecord extends ContainerClaim {
  readonly version: 1
  /** 64 hex digits. */
  readonly id: string
  readonly createdAt: string
  /**
   * Number of the last start that was recorded, 0 before the first. It is on disk before anything
   * runs, so a start of a number that is here already only observes: this is what makes a start
   * happen at most once.
   */
  readonly starts: number
  /**
   * `/proc/sys/kernel/random/boot_id` of the last recorded start: what ran in another boot is not
   * running now.
   */
  readonly bootId?: string | undefined
  readonly state: ContainerState
  /**
   * Only while a start of a container that was there before is under way: what the container goes
   * back to if that start ends before its process runs. `job` is the request then.
   */
  readonly idle?: ({ readonly state: IdleState } & Pick<ContainerRecord, 'starts' | 'output' | 'attached'>) | undefined
  /** Where in the log the output of the last start begins. Left out: at the log's beginning. */
  readonly output?: LogPlace | undefined
}

/** Whether the container was created by itself and waits for a request to start it. */
export function waitsForStart({ state, startedApart, job }: ContainerRecord): boolean {
  return state.status === 'created' && startedApart === true && job === undefined
}

/** The request that is under way with the container: its launch, its creation or its start. */
export function pendingJob({ state, idle, job }: ContainerRecord): string | undefined {
  return state.status === 'created' || idle !== undefined ? job : undefined
}

/**
 * Whether what is said of a container must outlive a loss of power. Of one that is removed when it
 * has exited, only the number of its start must, and that it waits for a start. A record that is
 * only half there is put aside, as any that cannot be read.
 */
export function lasts({ autoRemove, startedApart }: ContainerClaim): boolean {
  return !autoRemove || startedApart === true
}

/** A start of a container that is there: one that waits for its first start, or has exited. */
export interface ContainerStart {
  /** One more than the `starts` of the record that the request is about. */
  readonly number: number
  /** The request. */
  readonly job: string
  /** As `ContainerClaim.attached`, for this start. */
  readonly attached: boolean
}

/** What a launch asks of its caller. */
export interface LaunchOptions {
  /** Left out: the first start of a container, by the request that created it. */
  readonly start?: ContainerStart
  /** If it aborts before the process is started, the launch ends as `cancelled`. */
  readonly signal?: AbortSignal
  /**
   * Rejects if another may act on this launch by now, for instance because the run of a job has
   * lost the job. It is called directly before the process is started, and before a failure is
   * recorded. If it rejects, no process was started and none will be: what this launch created is
   * deleted, the record stays `created`, and the launch rejects with the same error. The owner then
   * calls `launch` or `giveUp`.
   */
  readonly assertOwned?: () => Promise<void>
}

/** How a container ended. */
export interface ContainerExit {
  readonly code: number
  readonly reason?: string
  /** Of a launch that failed. */
  readonly error?: ErrorCode
}

/**
 * Where the containers' writable roots come from: the snapshotter, as the node's service wires it.
 * All are idempotent; the last three also get ids of which no record is left.
 */
export interface ContainerRoots {
  /** The container's writable root, mounted; its absolute path. Also after a crash or a reboot. */
  mount(container: ContainerRecord): Promise<string>
  /** Takes the mount away and keeps what was written. */
  unmount(container: { readonly id: string }): Promise<void>
  /**
   * To be asked after `unmount`, before what was written is dropped.
   * @throws StrataError `in_use` while another mount shows what was written
   */
  assertUnused(container: { readonly id: string }): void
  /** Drops what was written, unmounted before. */
  remove(container: { readonly id: string }): Promise<void>
}
