export * from './image.js'
export { Images } from './images.js'
export { unpackableLayers } from './manifest.js'
export { Repositories } from './repositories/repositories.js'
export { underLease } from './under-lease.js'
export type { Referrer } from './repositories/referrers.js'

export { applyChanges } from './changes/index.js'
export { treeConfig, treeImageSchema, type TreeImage } from './tree-config.js'
