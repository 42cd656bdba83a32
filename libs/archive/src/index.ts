export * from './listing.js'
export * from './encode-listing.js'
export * from './tar-entry.js'
export {
  buildMemory,
  expectIndexMemory,
  INDEX_MEMORY,
  indexMemoryShape,
  stackMemory,
  workShare,
} from './index-memory-limit.js'
export { PACKED_LIMITS, packedLimits, packedLimitsShape, type PackedLimits } from './limits.js'
export { TarReader } from './tar-reader.js'
export * from './image-archive.js'
export { resolveArchive } from './resolve.js'
export { MAX_ARCHIVE_NAMES, type ResolveLimits } from './resolve-files.js'
export {
  COMPRESSION_HEAD,
  decompressor,
  detectCompression,
  MAX_WINDOW_LOG,
  RATIO_FREE,
  tooLarge,
  type DecompressorOptions,
} from './compression.js'
export {
  ARCHIVE_HEAD,
  archiveDecompressor,
  detectArchiveCompression,
  type ArchiveCompression,
} from './archive-compression.js'
export { originOf, type ArchiveOrigin } from './archive-origin.js'
export {
  CHECKPOINTS_HEADER,
  checkpointBefore,
  checkpointRows,
  encodeCheckpoints,
  type Checkpoint,
  type NewCheckpoint,
} from './checkpoints.js'
export { looksLikeTar } from './tar-header.js'
export { writeEntry, type WrittenEntry } from './tar-entry-write.js'
export { END_OF_TAR, zerosAfter } from './tar-write.js'
export { archiveBytes, planArchive, type ArchiveFormat, type ArchivePlan, type SavedImage } from './archive-plan.js'
