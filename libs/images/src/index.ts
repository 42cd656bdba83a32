export * from './image.js'
export { Images } from './images.js'
export type { Removal, Removed } from './remove.js'
export type { ImageContents } from './contents.js'
