import type { BlobStore, Leases, ObjectStore, RepositoryBlobs, RepositoryNames } from '@strata/store'
import type { Names } from '../names.js'
import type { OldTags } from './old-tags.js'

/** What the classes of this folder share. `Repositories` makes it once. */
export interface RepositoryParts {
  /** Whether a manifest is put whose layers are not all in its repository (`MayLack`). */
  readonly takesSparse: boolean
  readonly store: ObjectStore
  readonly names: Names
  readonly blobs: BlobStore
  readonly leases: Leases
  readonly repositoryBlobs: RepositoryBlobs
  readonly repositoryNames: RepositoryNames
  readonly oldTags: OldTags
}
