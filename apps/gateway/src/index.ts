export { gatewayConfigSchema, type GatewayConfig } from './config.js'
export { startGateway, type Gateway } from './gateway.js'
