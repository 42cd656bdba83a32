export { storageConfigSchema, type StorageConfig } from './config.js'
export { StorageModule } from './storage.module.js'
