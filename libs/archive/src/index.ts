export * from './listing.js'
export * from './tar-entry.js'
export { TarReader } from './tar-reader.js'
