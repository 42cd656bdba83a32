export * from './listing.js'
