export * from './image.js'
export { Images } from './images.js'

export { applyChanges } from './changes/index.js'
export { treeConfig, treeImageSchema, type TreeImage } from './tree-config.js'
