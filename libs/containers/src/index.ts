export * from './container.js'
export * from './containers.js'
export * from './log/types.js'
export { argsOf } from './command.js'
