import type { ErrorCode } from '@strata/base'
import type { ChainId, DiffId, Digest, ImageConfig } from '@strata/oci'

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
   * The request that launches it: whoever finds the container created, long after, can see whether
   * that still goes on.
   */
  readonly job?: string | undefined
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
  readonly bootId?: string
  readonly state: ContainerState
}

/**
 * Whether what is said of a container must outlive a loss of power. Of one that is removed when it
 * has exited nothing does but the number of its start: a record that is only half there is put
 * aside, as any that cannot be read.
 */
export function lasts({ autoRemove }: ContainerClaim): boolean {
  return !autoRemove
}

/** What a launch asks of its caller. */
export interface LaunchOptions {
  /** The number of the start. Default 1. */
  readonly start?: number
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
 * All three are idempotent; the last two also get ids of which no record is left.
 */
export interface ContainerRoots {
  /** The container's writable root, mounted; its absolute path. Also after a crash or a reboot. */
  mount(container: ContainerRecord): Promise<string>
  /** Takes the mount away and keeps what was written. */
  unmount(container: { readonly id: string }): Promise<void>
  /** Drops what was written, unmounted before. */
  remove(container: { readonly id: string }): Promise<void>
}
