import { closeSync, constants, mkdirSync, rmSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'
import { openOwnFile } from '@strata/linux'
import { awaited, makeSecretFile, readConfig, runProcess, withoutEmpty } from '@strata/platform'
import { openDataFolder } from './data-folder.js'
import { layoutOf, standaloneConfigSchema } from './config.js'
import { PrivateRedis } from './private-redis.js'
import { checkServices, startServices } from './standalone.js'

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
  const redis = config.STRATA_REDIS === undefined ? await PrivateRedis.start(layout.redisFolder) : undefined
  const pidFile = `${config.STRATA_SOCKET}.pid`
  let services: { close(): Promise<void> } | undefined
  try {
    services = await startServices(config.STRATA_SERVICES, layout)
    if (config.STRATA_SERVICES.includes('gateway')) {
      mkdirSync(dirname(pidFile), { recursive: true })
      const file = openOwnFile(pidFile, constants.O_TRUNC, 0o644)
      writeSync(file, `${process.pid}\n`)
      closeSync(file)
    }
    await ending
  } finally {
    if (services) await awaited(services.close(), config.STRATA_DRAIN_MS)
    await redis?.stop()
  }
  rmSync(pidFile, { force: true })
})
