export { layoutOf, SERVICES, standaloneConfigSchema, type Layout, type Service, type StandaloneConfig } from './config.js'
export { PrivateRedis } from './private-redis.js'
export { startServices, type Running } from './standalone.js'
