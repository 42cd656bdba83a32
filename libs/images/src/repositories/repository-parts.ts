import type { BlobStore, Leases, ObjectStore, RepositoryBlobs, RepositoryNames } from '@strata/store'
import type { Names } from '../names.js'
import type { OldTags } from './old-tags.js'

/** What the classes of this folder share. `Repositories` makes it once. */
export interface RepositoryParts {
  readonly store: ObjectStore
  readonly names: Names
  readonly blobs: BlobStore
  readonly leases: Leases
  readonly repositoryBlobs: RepositoryBlobs
  readonly repositoryNames: RepositoryNames
  readonly oldTags: OldTags
}
