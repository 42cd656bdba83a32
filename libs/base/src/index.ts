export * from './data-version.js'
export * from './errors.js'
export * from './failpoint.js'
export * from './serial.js'
