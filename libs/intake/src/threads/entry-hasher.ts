import type { TarEntry, TarLimits, TarSink } from '@strata/archive'
import type { DiffId } from '@strata/oci'
import { algorithmOfName } from './algorithm.js'
import { Catalog } from './catalog.js'
import { FileHasher, type Indexer } from './file-hasher.js'

export interface HasherOptions {
  readonly keyOf: (name: string) => string
  readonly newIndexer: () => Indexer
  /** Of each layer. */
  readonly limits?: Partial<TarLimits>
  readonly indexed: (diffId: DiffId, bytes: Buffer) => void
  readonly counted: () => void
}

/**
 * The sink of the hashing worker: lists what comes, each file with what its bytes say. Slots are
 * filled to the brim, so a file's first block lies whole in its first view.
 */
export class EntryHasher implements TarSink {
  readonly #catalog: Catalog
  #current: FileHasher | undefined

  constructor(private readonly options: HasherOptions) {
    this.#catalog = new Catalog(options.keyOf)
  }

  entry(entry: TarEntry): boolean {
    const place = this.#catalog.add(entry)
    this.options.counted()
    if (place !== undefined)
      this.#current = new FileHasher(this.options.newIndexer, this.options.limits, algorithmOfName(entry.path))
    return place !== undefined
  }

  data(view: Buffer): void {
    this.#current!.write(view)
  }

  entryEnd(): void {
    if (this.#current === undefined) return
    const { facts, index } = this.#current.end()
    this.#current = undefined
    this.#catalog.know(this.#catalog.length - 1, facts)
    if (index !== undefined) this.options.indexed(facts.diffId!, index)
  }

  /** For an upload that does not come to its end. */
  close(): void {
    this.#current?.release()
  }

  listing(): { bytes: Buffer; entries: number } {
    return { bytes: this.#catalog.encode(), entries: this.#catalog.length }
  }
}
