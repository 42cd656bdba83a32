export { argsOf } from './runtime/command.js'
export * from './container.js'
export * from './containers.js'
export * from './log/types.js'
