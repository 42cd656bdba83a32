import type { ChainId } from '@strata/oci'
import type { LayerFiles } from './snapshotter.js'
import type { Usage } from './snapshot.js'

/**
 * What is done in a thread of its own, since each of it keeps a processor or the disk busy for
 * long. Messages, so plain data.
 */
export type WorkerTask =
  | {
      readonly task: 'erofs'
      readonly layers: readonly LayerFiles[]
      readonly chainId: ChainId
      readonly folder: string
    }
  | {
      readonly task: 'unpack'
      readonly layers: readonly LayerFiles[]
      readonly missing: readonly { readonly place: number; readonly folder: string }[]
    }
  | { readonly task: 'synced'; readonly marks: readonly string[]; readonly folder: string }
  | { readonly task: 'remove'; readonly folder: string }
  | { readonly task: 'usage'; readonly folder: string }

export interface WorkerResults {
  readonly erofs: ErofsRoot
  readonly unpack: undefined
  readonly synced: undefined
  readonly remove: undefined
  readonly usage: Usage
}
/** What `task: 'erofs'` left in its folder. */
export interface ErofsRoot {
  /** Places of the layers whose tars hold data, in the order of the device slots. */
  readonly devices: readonly number[]
  /** Bytes of the side file, the last device; 0 = there is none. */
  readonly side: number
  /** sha256 of the metadata, hex. */
  readonly sha256: string
}
export interface WorkerRequest {
  readonly task: WorkerTask
  /** Not 0 = no longer wanted. */
  readonly stop: Int32Array
}
export type WorkerOutcome =
  { readonly result: WorkerResults[WorkerTask['task']] } | { readonly code: string; readonly message: string }
export interface WorkerReply {
  readonly outcome: WorkerOutcome
  /** Bytes that the thread has now, with its garbage. */
  readonly held: number
}
