import { createHash, type Hash } from 'node:crypto'
import {
  detectCompression,
  looksLikeTar,
  TarReader,
  type ArchiveEntry,
  type TarLimits,
  type TarSink,
} from '@strata/archive'
import { asStrataError } from '@strata/base'
import { digestFromHex, type Algorithm, type Compression, type Digest, type DiffId } from '@strata/oci'

/** A sink that makes a layer's index of what it sees: `LayerIndexer`. */
export interface Indexer extends TarSink {
  /** `tarSize`: all bytes of the layer. Nothing, if the index is to be made later. */
  finish(tarSize: number): { encode(): Buffer } | undefined
  /** Whatever became of it: its memory is free again. */
  release(): void
}

/** What is known of a file of the archive once all its bytes were seen. */
export interface FileFacts {
  readonly digest: Digest
  readonly size: number
  readonly compression: Compression
  /** Where the file is a plain tar that could be indexed. */
  readonly diffId?: DiffId
  readonly layerError?: NonNullable<ArchiveEntry['layerError']>
}

interface LayerReader {
  readonly reader: TarReader
  readonly indexer: Indexer
}

/**
 * One file's bytes, once, in order: its digest; if it is a plain tar, whatever its name, the
 * layer's index in the same pass. A file that cannot be a layer stays a file, with the reason
 * noted: it may be no image's layer at all.
 */
export class FileHasher {
  readonly #hash = createHash('sha256')
  /** Of a file that its name says to be known by another digest. */
  readonly #named: Hash | undefined
  #compression: Compression | undefined
  #layer: LayerReader | undefined
  #layerError: FileFacts['layerError']
  #size = 0

  constructor(
    private readonly newIndexer: () => Indexer,
    private readonly limits: Partial<TarLimits> = {},
    algorithm: Algorithm = 'sha256',
  ) {
    if (algorithm !== 'sha256') this.#named = createHash(algorithm)
  }

  /** The first view holds the first block whole, if the file has one. */
  write(view: Buffer): void {
    this.#hash.update(view)
    this.#named?.update(view)
    this.#size += view.length
    if (this.#compression === undefined) this.#begin(view)
    if (this.#layer !== undefined) this.#walk((layer) => layer.reader.write(view))
  }

  end(): { facts: FileFacts; index: Buffer | undefined } {
    const sha256 = digestFromHex(this.#hash.digest('hex'))
    const layer = this.#walk(({ reader, indexer }) => {
      reader.end()
      return { index: indexer.finish(this.#size)?.encode() }
    })
    this.release()
    const facts: FileFacts = {
      digest: this.#named ? digestFromHex(this.#named.digest('hex')) : sha256,
      size: this.#size,
      compression: this.#compression ?? 'none',
      ...(this.#layerError === undefined ? {} : { layerError: this.#layerError }),
      ...(layer === undefined ? {} : { diffId: sha256 as DiffId }),
    }
    return { facts, index: layer?.index }
  }

  /** For a file that does not come to its end; of no more use. */
  release(): void {
    this.#layer?.indexer.release()
    this.#layer = undefined
  }

  #begin(head: Buffer): void {
    this.#compression = detectCompression(head)
    if (!looksLikeTar(head)) return
    const indexer = this.newIndexer()
    this.#layer = { reader: new TarReader(indexer, this.limits), indexer }
  }

  #walk<T>(step: (layer: LayerReader) => T): T | undefined {
    if (this.#layer === undefined) return undefined
    try {
      return step(this.#layer)
    } catch (error) {
      this.release()
      const { code, message } = asStrataError(error)
      this.#layerError = {
        code: code === 'archive_invalid' || code === 'archive_truncated' ? 'layer_invalid' : code,
        message,
      }
      return undefined
    }
  }
}
