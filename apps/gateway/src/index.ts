export { gateway } from './gateway.js'
