export {
  layoutOf,
  SERVICES,
  standaloneConfigSchema,
  type Layout,
  type ServiceName,
  type StandaloneConfig,
} from './config.js'
export { PrivateRedis } from './private-redis.js'
export { checkServices, startServices } from './standalone.js'
