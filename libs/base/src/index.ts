export * from './errors.js'
export * from './failpoint.js'
export * from './serial.js'
