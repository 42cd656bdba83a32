import { startWorker, type Service } from '@strata/platform'
import { storageConfigSchema } from './config.js'
import { StorageModule, StorageWorker } from './storage.module.js'

export const storage: Service<typeof storageConfigSchema> = {
  name: 'storage',
  summary:
    'Keeps what is kept: collects what nothing needs, ends uploads whose owner died. Any number of them share the work.',
  config: storageConfigSchema,
  start: (config, metrics) => startWorker(StorageModule.register(config, metrics), StorageWorker),
}
