import { setTimeout as sleep } from 'node:timers/promises'
import { Logger } from '@nestjs/common'
import { StrataError } from '@strata/base'
import type { z } from 'zod'
import { describeConfig, readConfig } from '../config/config.js'
import { listenerText } from '../listener/listener.js'
import { openHealth } from '../listener/health-listener.js'
import { Metrics, type ServiceMetrics } from '../metrics/metrics.js'
import { reportReadiness } from '../metrics/observers.js'
import { awaited, runProcess } from './process.js'
import type { NotReady } from './readiness.js'
import { listenerLimits, type serviceConfigShape } from '../config/service-config.js'

/** A service at work. */
export interface RunningService {
  /** The addresses at which it answers; for its log line. */
  readonly addresses: readonly string[]
  /** Why it does not serve; empty if it does. Cheap: health checks ask it. */
  notReady(): Promise<readonly NotReady[]>
  /** Takes no more requests and jobs, awaits those under way, then lets go of everything. */
  close(): Promise<void>
}

/**
 * One of Strata's services, wherever it runs: in a process of its own (`runService`), or beside
 * others (apps/standalone).
 */
export interface Service<S extends z.ZodObject<typeof serviceConfigShape> = z.ZodObject<typeof serviceConfigShape>> {
  readonly name: string
  /** One line for `--help`. */
  readonly summary: string
  /** Its environment: all variables, each with a description. */
  readonly config: S
  /**
   * Resolves when it serves. If it throws, nothing of it is left running.
   * @param metrics this service's share of the process's
   */
  start(config: z.infer<S>, metrics: ServiceMetrics): Promise<RunningService>
}

/**
 * A service as a process of its own; the whole of an app's `main.ts`. Its configuration is the
 * environment; `--help` tells all of it. Ends as `runProcess` says: after a signal it drains for
 * STRATA_DRAIN_MS at most, and what is not done then is left to others, as after a crash.
 */
export function runService<S extends z.ZodObject<typeof serviceConfigShape>>(service: Service<S>): Promise<never> {
  return runProcess(async (ending) => {
    const [argument] = process.argv.slice(2)
    if (argument === '--help' || argument === '-h') {
      process.stdout.write(
        `${service.summary}\n\nIts configuration is its environment:\n\n${describeConfig(service.config)}`,
      )
      return
    }
    if (argument !== undefined)
      throw new StrataError(
        'bad_request',
        `${service.name} takes no arguments but --help: its configuration is its environment`,
      )

    const config = readConfig(service.config, process.env)
    const metrics = (await Metrics.open()).of(service.name)
    let notReady = (): Promise<readonly NotReady[]> => Promise.resolve(['starting'])
    reportReadiness(metrics, () => notReady())
    const health =
      config.STRATA_HEALTH === undefined
        ? undefined
        : await openHealth(
            config.STRATA_HEALTH,
            () => notReady(),
            () => metrics.scrape(),
            listenerLimits(config),
          )
    const starting = service.start(config, metrics)
    // Told to end before it serves: a start that hangs is left as it is, any other is brought to
    // its end, so that it can let go of all that it took.
    const running = await Promise.race([starting, ending.then(() => sleep(config.STRATA_DRAIN_MS, undefined))])
    if (!running) return
    notReady = () => running.notReady()
    const logger = new Logger(service.name)
    logger.log(
      ['running', ...running.addresses, ...(health ? [`health at ${listenerText(health.listener)}`] : [])].join(', '),
    )
    await ending
    notReady = () => Promise.resolve(['draining'])
    if (!(await awaited(running.close(), config.STRATA_DRAIN_MS)))
      logger.warn(`what was under way after ${config.STRATA_DRAIN_MS} ms is left`)
    await health?.close()
  })
}
