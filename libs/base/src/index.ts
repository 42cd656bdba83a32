export * from './errors.js'
export * from './failpoint.js'
