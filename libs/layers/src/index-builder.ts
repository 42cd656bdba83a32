// The reader's own types take the place of this as soon as they are exported.
interface TarEntry { readonly path: Buffer }
import type { LayerIndex } from './layer-index.js'

export interface IndexLimits {
  /** Entries of a layer. */
  readonly entries: number
}

/** A `TarReader`'s sink that gathers a layer's index in flight. */
export class IndexBuilder {
  constructor(readonly limits: IndexLimits = { entries: 10_000_000 }) {}
  entry(_entry: TarEntry): boolean { return false }
  data(_view: Uint8Array): void { /* follows */ }
  entryEnd(): void { /* follows */ }
  finish(_tarSize: number): LayerIndex { throw new Error('follows') }
}
