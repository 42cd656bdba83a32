export type { FilePart } from './blobs/blob-reader.js'
export { makerOf, piecesOf, type BlobRecord } from './blobs/blob-record.js'
export * from './blobs/blobs.js'
export type { StoreCollection } from './blobs/collection-sums.js'
export * from './blobs/collector.js'
export type { Told, Unreadable } from './blobs/unreadable.js'
export { DurableFolder } from './folder/durable-folder.js'
export { FolderStore } from './folder/folder-store.js'
export * from './keys.js'
export { mendTail } from './mend-tail.js'
export { lentChunks } from './objects/lent-chunks.js'
export * from './objects/object-store.js'
export {
  checkPublicReads,
  checkStoreConfig,
  OBJECT_STORE,
  openPublicReads,
  openStore,
  publicReadsShape,
  storeConfigShape,
} from './objects/open-store.js'
export { pageOfRecords } from './record-pages.js'
export * from './records.js'
export * from './removed-nodes.js'
export { RepositoryBlobs } from './repositories/repository-blobs.js'
export { RepositoryNames } from './repositories/repository-names.js'
export * from './uploads/blob-limit.js'
export * from './uploads/push-times.js'
export * from './uploads/uploads.js'
export * from './leases/lease-kinds.js'
export * from './leases/leases.js'
export * from './leases/used-ids.js'
