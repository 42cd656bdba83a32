export * from './object-store-suite.js'
export * from './put-image.js'
export * from './temporary-store.js'
export * from './test-s3.js'
