import { closeSync, constants, mkdirSync, rmSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'
import { openOwnFile } from '@strata/linux'
import {
  awaited,
  listenerLimits,
  makeSecretFile,
  Metrics,
  openHealth,
  readConfig,
  runProcess,
  serviceConfigShape,
  withoutEmpty,
} from '@strata/platform'
import { z } from 'zod'
import { openDataFolder } from './data-folder.js'
import { layoutOf, standaloneConfigSchema } from './config.js'
import { PrivateRedis } from './private-redis.js'
import { checkServices, Services } from './standalone.js'

/**
 * What `strata up` starts. Ends by SIGTERM or SIGINT: jobs under way are awaited, containers run
 * on.
 */
await runProcess(async (ending) => {
  const given = withoutEmpty(process.env)
  const parsed = standaloneConfigSchema.safeParse(given)
  // What is wrong here is said at once: what the services find wrong can be told only of what
  // follows from it.
  const config = parsed.success ? parsed.data : readConfig(standaloneConfigSchema, given)
  const layout = layoutOf(config, given)
  checkServices(config.STRATA_SERVICES, layout)
  await openDataFolder(layout.data)
  for (const file of layout.secretFiles) makeSecretFile(file)
  const metrics = await Metrics.open()
  const redis = config.STRATA_REDIS === undefined ? await PrivateRedis.start(layout.redisFolder) : undefined
  const pidFile = `${config.STRATA_SOCKET}.pid`
  const services = new Services(config.STRATA_SERVICES, metrics)
  let health: { close(): Promise<void> } | undefined
  try {
    if (config.STRATA_HEALTH !== undefined)
      health = await openHealth(
        config.STRATA_HEALTH,
        () => services.notReady(),
        () => metrics.scrape(),
        listenerLimits(z.object(serviceConfigShape).parse(layout.environment)),
      )
    await services.start(layout)
    if (config.STRATA_SERVICES.includes('gateway')) {
      mkdirSync(dirname(pidFile), { recursive: true })
      const file = openOwnFile(pidFile, constants.O_TRUNC, 0o644)
      writeSync(file, `${process.pid}\n`)
      closeSync(file)
    }
    await ending
  } finally {
    await awaited(services.close(), config.STRATA_DRAIN_MS)
    await health?.close()
    await redis?.stop()
  }
  rmSync(pidFile, { force: true })
})
