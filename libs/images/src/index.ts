export * from './image.js'
export { Images } from './images.js'
export { Repositories } from './repositories/repositories.js'

export { applyChanges } from './changes/index.js'
export { treeConfig, treeImageSchema, type TreeImage } from './tree-config.js'
