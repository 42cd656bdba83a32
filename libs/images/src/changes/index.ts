export { applyChanges, type RunConfig } from './run-config.js'
export type { Healthcheck } from './healthcheck.js'
