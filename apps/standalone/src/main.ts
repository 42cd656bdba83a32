import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { asStrataError } from '@strata/oci'
import { readConfig } from '@strata/platform'
import { layoutOf, standaloneConfigSchema } from './config.js'
import { PrivateRedis } from './private-redis.js'
import { startServices, type Running } from './standalone.js'

/** What `strata up` starts. Ends by SIGTERM or SIGINT: jobs under way are awaited, containers run on. */
async function main(): Promise<void> {
  const config = readConfig(standaloneConfigSchema, process.env)
  const layout = layoutOf(config, process.env)
  // Asked for before anything is up, so that a signal in the middle of the start is not lost.
  const ending = new Promise<void>((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => resolve())
  })
  const redis = config.STRATA_REDIS === undefined ? await PrivateRedis.start(layout.redisFolder) : undefined
  const pidFile = `${config.STRATA_SOCKET}.pid`
  let services: Running | undefined
  try {
    services = await startServices(config.STRATA_SERVICES, layout)
    if (config.STRATA_SERVICES.includes('gateway')) {
      mkdirSync(dirname(pidFile), { recursive: true })
      writeFileSync(pidFile, `${process.pid}\n`)
    }
    await ending
  } finally {
    await services?.close()
    await redis?.stop()
  }
  rmSync(pidFile, { force: true })
}

try {
  await main()
  process.exit(0)
} catch (error) {
  const { code, message, cause, stack } = asStrataError(error)
  process.stderr.write(`strata: ${message}\n`)
  if (code === 'internal') process.stderr.write(`${String((cause as Error | undefined)?.stack ?? stack)}\n`)
  process.exit(1)
}
