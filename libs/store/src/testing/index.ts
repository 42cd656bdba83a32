export * from './object-store-suite.js'
export * from './temporary-store.js'
