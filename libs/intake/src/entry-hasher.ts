import { createHash, type Hash } from 'node:crypto'
import { detectCompression, encodeListing, ENTRY, looksLikeTar, TarReader, type ArchiveEntry, type EntryType, type TarEntry, type TarSink } from '@strata/archive'
import { asStrataError, digestFromHex, StrataError, type Compression, type DiffId } from '@strata/oci'
import { Placement } from './placement.js'

/** A sink that makes a layer's index of what it sees: `IndexBuilder` of @strata/layers. */
export interface Indexer extends TarSink {
  /** `tarSize`: all bytes of the layer. */
  finish(tarSize: number): { encode(): Buffer }
}

export interface HasherOptions {
  readonly keyOf: (name: string) => string
  readonly newIndexer: () => Indexer
  readonly indexed: (diffId: DiffId, bytes: Buffer) => void
  readonly counted: () => void
}

const TYPE_NAMES: Readonly<Record<EntryType, ArchiveEntry['type']>> = {
  [ENTRY.file]: 'file', [ENTRY.hardlink]: 'hardlink', [ENTRY.symlink]: 'symlink', [ENTRY.directory]: 'directory',
  [ENTRY.char]: 'other', [ENTRY.block]: 'other', [ENTRY.fifo]: 'other',
}

/** Bytes of all names together: the list is one object in memory, here and wherever it is read. */
const MAX_NAME_BYTES = 32 * 1024 * 1024

/**
 * The sink of the hashing worker: each file's digest; of a file that is a plain tar, whatever its name, the layer's index in the same pass. A file that cannot be
 * a layer stays a file, with the reason noted: it may be no image's layer at all.
 */
export class EntryHasher implements TarSink {
  private readonly placement = new Placement()
  private readonly entries: ArchiveEntry[] = []
  private nameBytes = 0
  private hash: Hash | undefined
  private current: ArchiveEntry | undefined
  private compression: Compression | undefined
  private layer: { readonly reader: TarReader; readonly indexer: Indexer } | undefined
  private layerError: ArchiveEntry['layerError']

  constructor(private readonly options: HasherOptions) {}

  entry(entry: TarEntry): boolean {
    const place = this.placement.next(entry)
    this.nameBytes += entry.path.length + entry.link.length
    if (this.nameBytes > MAX_NAME_BYTES) throw new StrataError('limit_exceeded', `the names in the archive have more than ${MAX_NAME_BYTES} bytes in all`)
    this.options.counted()
    this.current = { name: entry.path.toString('latin1'), type: TYPE_NAMES[entry.type], size: entry.size }
    if (entry.type === ENTRY.symlink || entry.type === ENTRY.hardlink) this.current.link = entry.link.toString('latin1')
    if (place === undefined) return false
    this.current.at = { object: this.options.keyOf(place.name), offset: place.offset }
    this.hash = createHash('sha256')
    this.compression = this.layer = this.layerError = undefined
    return true
  }

  data(view: Buffer): void {
    this.hash!.update(view)
    if (this.compression === undefined) this.begin(view)
    if (this.layer !== undefined) this.walk((layer) => layer.reader.write(view))
  }

  entryEnd(): void {
    const current = this.current!
    this.current = undefined
    this.entries.push(current)
    if (this.hash === undefined) return
    const digest = digestFromHex(this.hash.digest('hex'))
    this.hash = undefined
    current.digest = digest
    current.compression = this.compression ?? 'none'
    const index = this.walk((layer) => {
      layer.reader.end()
      return layer.indexer.finish(current.size).encode()
    })
    this.layer = undefined
    if (this.layerError !== undefined) current.layerError = this.layerError
    if (index === undefined) return
    current.diffId = digest as DiffId
    this.options.indexed(current.diffId, index)
  }

  listing(): { bytes: Buffer; entries: number } {
    return { bytes: encodeListing({ entries: this.entries }), entries: this.entries.length }
  }

  /** A file's first bytes lie whole in the first view: data begins at a block's boundary, and the ring's slots are filled to the brim. */
  private begin(head: Buffer): void {
    this.compression = detectCompression(head)
    if (!looksLikeTar(head)) return
    const indexer = this.options.newIndexer()
    this.layer = { reader: new TarReader(indexer), indexer }
  }

  private walk<T>(step: (layer: NonNullable<EntryHasher['layer']>) => T): T | undefined {
    if (this.layer === undefined) return undefined
    try {
      return step(this.layer)
    } catch (error) {
      this.layer = undefined
      const { code, message } = asStrataError(error)
      this.layerError = { code: code === 'archive_invalid' || code === 'archive_truncated' ? 'layer_invalid' : code, message }
      return undefined
    }
  }
}
