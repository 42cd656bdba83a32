import { digestOf, type DiffId } from '@strata/oci'
import type { ArchiveEntry, ArchiveListing } from '../listing.js'
import type { ReadSmall } from '../images/resolve-files.js'
import { ENTRY, type TarEntry } from '../tar/tar-entry.js'
import { TarReader } from '../tar/tar-reader.js'

const TYPES: Partial<Record<number, ArchiveEntry['type']>> = {
  [ENTRY.file]: 'file',
  [ENTRY.symlink]: 'symlink',
  [ENTRY.hardlink]: 'hardlink',
  [ENTRY.directory]: 'directory',
}

/** The intake in small, for tests: the listing of a plain outer tar held in memory. */
export function listArchive(tar: Buffer): { listing: ArchiveListing; readSmall: ReadSmall } {
  const entries: ArchiveEntry[] = []
  const sink = {
    entry(entry: TarEntry): boolean {
      entries.push(listed(entry, tar))
      return false
    },
    data: () => undefined,
    entryEnd: () => undefined,
  }
  const reader = new TarReader(sink)
  reader.write(tar)
  reader.end()
  return {
    listing: { entries },
    readSmall: ({ at, size }) => Promise.resolve(tar.subarray(at.offset, at.offset + size)),
  }
}

function listed(entry: TarEntry, tar: Buffer): ArchiveEntry {
  const name = entry.path.toString('latin1')
  const type = TYPES[entry.type] ?? 'other'
  if (type !== 'file')
    return { name, type, size: 0, ...(entry.link.length > 0 ? { link: entry.link.toString('latin1') } : {}) }
  const bytes = tar.subarray(entry.dataOffset, entry.dataOffset + entry.size)
  const digest = digestOf(bytes)
  const compression =
    bytes.readUIntBE(0, Math.min(2, bytes.length)) === 0x1f8b
      ? 'gzip'
      : bytes.subarray(0, 4).toString('hex') === '28b52ffd'
        ? 'zstd'
        : 'none'
  const walked = compression === 'none' && bytes.subarray(257, 262).toString('latin1') === 'ustar'
  return {
    name,
    type,
    size: entry.size,
    digest,
    compression,
    ...(walked ? { diffId: digest as DiffId } : {}),
    at: { object: 'archive', offset: entry.dataOffset },
  }
}
