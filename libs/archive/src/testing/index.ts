export * from './busybox.js'
export * from './fixtures.js'
export * from './list-archive.js'
export * from './make-image.js'
