import type { DiffId, ErrorCode } from '@strata/oci'

/** What main tells a pair of workers, and what they answer. A job is answered exactly once, by `written`, `hashed`, `failed` or `aborted`. */
export interface Job {
  /** What the keys of the upload's objects begin with. */
  readonly keyPrefix: string
  /** For the writer: the folder that holds them; `small` is there already. */
  readonly folder: string
  readonly entries: number
}

export type Answer =
  /** Entry numbers that have a file of their own. */
  | { readonly kind: 'written'; readonly large: string[] }
  | { readonly kind: 'hashed'; readonly listing: Uint8Array; readonly entries: number }
  | { readonly kind: 'failed'; readonly code: ErrorCode; readonly message: string }
  | { readonly kind: 'aborted' }

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
}
