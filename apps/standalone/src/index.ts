export { SERVICES, standaloneConfigSchema, type ServiceName } from './config.js'
export { PrivateRedis } from './private-redis.js'
