export { runtime } from './runtime.js'
