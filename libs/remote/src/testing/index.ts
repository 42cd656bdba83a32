export { SHORT_LIMITS, SMALL_LIMITS } from './limits.js'
export { selfSigned, serveBytes, TestRegistry, type Behaviour } from './test-registry.js'
export { bytesIn, collect } from './collect.js'
export { Distribution, DISTRIBUTIONS } from './distribution.js'
