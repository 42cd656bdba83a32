export { runtimeConfigSchema, type RuntimeConfig } from './config.js'
export { startRuntime } from './runtime.js'
