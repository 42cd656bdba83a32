export * from './listing.js'
export * from './encode-listing.js'
export * from './tar/tar-entry.js'
export {
  buildMemory,
  expectIndexMemory,
  INDEX_MEMORY,
  indexMemoryShape,
  stackMemory,
  workShare,
} from './index-memory-limit.js'
export { PACKED_LIMITS, packedLimits, packedLimitsShape, type PackedLimits } from './limits.js'
export { TarReader } from './tar/tar-reader.js'
export * from './images/image-archive.js'
export { resolveArchive } from './images/resolve.js'
export { MAX_ARCHIVE_NAMES, type ResolveLimits } from './images/resolve-files.js'
export {
  COMPRESSION_HEAD,
  decompressor,
  detectCompression,
  MAX_WINDOW_LOG,
  RATIO_FREE,
  tooLarge,
  type DecompressorOptions,
} from './packing/compression.js'
export {
  ARCHIVE_HEAD,
  archiveDecompressor,
  detectArchiveCompression,
  type ArchiveCompression,
} from './packing/archive-compression.js'
export { originOf, type ArchiveOrigin } from './images/archive-origin.js'
export { fromAmidByte } from './packing/amid-byte.js'
export {
  CHECKPOINTS_HEADER,
  checkpointBefore,
  checkpointRows,
  encodeCheckpoints,
  type Checkpoint,
  type NewCheckpoint,
} from './packing/checkpoints.js'
export { looksLikeTar } from './tar/tar-header.js'
export { writeEntry, type WrittenEntry } from './tar/tar-entry-write.js'
export { END_OF_TAR, zerosAfter } from './tar/tar-write.js'
export { archiveBytes, planArchive, type ArchiveFormat, type ArchivePlan, type SavedImage } from './tar/archive-plan.js'
