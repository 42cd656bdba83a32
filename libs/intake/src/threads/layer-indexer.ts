import type { TarEntry, TarLimits } from '@strata/archive'
import { GrowingMemory, IndexBuilder, type IndexLimits, type LayerIndex, type SharedMemory } from '@strata/layers'
import { StrataError } from '@strata/base'
import type { Indexer } from './file-hasher.js'

/**
 * Makes a layer's index in the memory that this process has for uploads. If that is full, the layer
 * goes on without an index: its tar is read to the end all the same, and an extractor, which may
 * wait for memory, makes the index.
 */
export class LayerIndexer implements Indexer {
  #builder: IndexBuilder | undefined
  readonly #memory: GrowingMemory

  constructor(limits: Partial<TarLimits & IndexLimits>, shared: SharedMemory) {
    this.#memory = new GrowingMemory(shared)
    this.#builder = new IndexBuilder(limits, this.#memory)
  }

  entry(entry: TarEntry): boolean {
    try {
      return this.#builder?.entry(entry) ?? false
    } catch (error) {
      if (!(error instanceof StrataError && error.code === 'overloaded')) throw error
      this.release()
      return false
    }
  }

  data(): void {
    // Never asked for.
  }

  entryEnd(): void {
    // Nothing to close.
  }

  finish(tarSize: number): LayerIndex | undefined {
    return this.#builder?.finish(tarSize)
  }

  release(): void {
    this.#builder = undefined
    this.#memory.release()
  }
}
