import type { TarLimits } from '@strata/archive'
import type { SharedMemory } from '@strata/layers'
import type { ErrorCode } from '@strata/base'
import type { DiffId } from '@strata/oci'
import type { FileFacts } from './file-hasher.js'

/**
 * A turn of one upload: what main tells a pair of workers, and what they answer, exactly once. The
 * threads keep what they have read of an upload between its turns, so all turns of one upload are
 * the same pair's.
 */
export interface Job {
  /** Whose turn it is. The first turn under a number begins the upload. */
  readonly session: number
  /** What the keys of the upload's objects begin with. */
  readonly keyPrefix: string
  /** For the writer: the folder that holds them; `small` is there already. */
  readonly folder: string
  /** Of the archive. */
  readonly limits: TarLimits
  /** Of each layer in it. */
  readonly layer: TarLimits
  /** The body is one file, and no archive. */
  readonly whole: boolean
  /** Where the writer itself takes the bytes from; without it they are put into the ring. */
  readonly socket?: SocketJob
}
export interface SocketJob {
  readonly fd: number
  /** Bytes that came from it already. */
  readonly first: Uint8Array
  /** How many are still to come; behind them are others' bytes. */
  readonly rest: number
  /** An Int64: bytes that this turn took from the socket. */
  readonly received: SharedArrayBuffer
}

/** The upload is over, whatever became of it: nothing of it is kept. Has no answer. */
export interface Drop {
  readonly kind: 'drop'
  readonly session: number
}

/**
 * Of an archive in a file: one thread reads the headers; then all copy and hash, by the plan; then
 * the one that planned lists. `control` and `plan` are shared memory (file-control.ts,
 * file-plan.ts).
 */
export interface PlanJob {
  readonly kind: 'plan'
  readonly fd: number
  readonly size: number
  readonly keyPrefix: string
  readonly limits: TarLimits
  readonly whole: boolean
  readonly control: SharedArrayBuffer
}
export interface CopyJob {
  readonly kind: 'copy'
  readonly fd: number
  readonly folder: string
  readonly layer: TarLimits
  readonly plan: SharedArrayBuffer
  readonly control: SharedArrayBuffer
}
export interface ListJob {
  readonly kind: 'list'
  readonly files: readonly KnownFile[]
}
export type FileJob = PlanJob | CopyJob | ListJob
export interface KnownFile {
  /** Its entry's number. */
  readonly entry: number
  readonly facts: FileFacts
}

export type Answer =
  /** Entry numbers that have a file of their own. */
  | { readonly kind: 'written'; readonly large: string[] }
  | { readonly kind: 'hashed'; readonly listing: Uint8Array; readonly entries: number }
  | { readonly kind: 'planned'; readonly plan: SharedArrayBuffer }
  | { readonly kind: 'copied'; readonly files: KnownFile[] }
  | { readonly kind: 'failed'; readonly code: ErrorCode; readonly message: string }
  /**
   * The turn is over, the body is not. `rest`: what the next turn begins with, where the writer
   * took the bytes by itself.
   */
  | { readonly kind: 'paused'; readonly rest: Uint8Array }
  | { readonly kind: 'aborted' }

export interface Answered {
  readonly kind: 'answered'
  readonly answer: Answer
  /** Bytes that the thread has now, with its garbage. */
  readonly held: number
}

/** Sent on the way, for each layer that could be indexed. */
export interface LayerIndexed {
  readonly kind: 'index'
  readonly diffId: DiffId
  readonly bytes: Uint8Array
}

export type Role = 'writer' | 'hasher'
export interface WorkerData {
  readonly role: Role
  readonly ring: SharedArrayBuffer
  /** For the indexes of layers that this thread makes. */
  readonly memory: SharedMemory
}
