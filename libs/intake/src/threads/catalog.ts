import { encodeListing, ENTRY, type ArchiveEntry, type EntryType, type TarEntry } from '@strata/archive'
import { StrataError } from '@strata/base'
import type { FileFacts } from './file-hasher.js'
import { Placement, type Place } from '../destinations/placement.js'

const TYPE_NAMES: Readonly<Record<EntryType, ArchiveEntry['type']>> = {
  [ENTRY.file]: 'file',
  [ENTRY.hardlink]: 'hardlink',
  [ENTRY.symlink]: 'symlink',
  [ENTRY.directory]: 'directory',
  [ENTRY.char]: 'other',
  [ENTRY.block]: 'other',
  [ENTRY.fifo]: 'other',
}

/** Bytes of all names together: the list is one object in memory, here and wherever it is read. */
const MAX_NAME_BYTES = 32 * 1024 * 1024

/**
 * The list of an archive's entries while it is made: first what their headers say, then what became
 * known of each file's bytes.
 */
export class Catalog {
  readonly #placement = new Placement()
  readonly #entries: ArchiveEntry[] = []
  #nameBytes = 0

  constructor(private readonly keyOf: (name: string) => string) {}

  /**
   * To be called once for each entry, in order. A file has a place, and facts that are to follow.
   */
  add(entry: TarEntry): Place | undefined {
    const place = this.#placement.next(entry)
    this.#nameBytes += entry.path.length + entry.link.length
    if (this.#nameBytes > MAX_NAME_BYTES)
      throw new StrataError('limit_exceeded', `the names in the archive have more than ${MAX_NAME_BYTES} bytes in all`)
    const listed: ArchiveEntry = { name: entry.path.toString('latin1'), type: TYPE_NAMES[entry.type], size: entry.size }
    if (entry.type === ENTRY.symlink || entry.type === ENTRY.hardlink) listed.link = entry.link.toString('latin1')
    if (place !== undefined) listed.at = { object: this.keyOf(place.name), offset: place.offset }
    this.#entries.push(listed)
    return place
  }

  /** Entries so far: the last one's number is one less. */
  get length(): number {
    return this.#entries.length
  }

  know(entry: number, facts: FileFacts): void {
    const listed = this.#entries[entry]!
    listed.size = facts.size
    listed.digest = facts.digest
    listed.compression = facts.compression
    if (facts.layerError !== undefined) listed.layerError = facts.layerError
    if (facts.diffId !== undefined) listed.diffId = facts.diffId
  }

  encode(): Buffer {
    return encodeListing({ entries: this.#entries })
  }
}
