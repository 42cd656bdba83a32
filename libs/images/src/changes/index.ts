export { applyChanges, type RunConfig } from './run-config.js'
