import { NOT_READY, type NotReady } from '../service/readiness.js'
import type { ServiceMetrics } from './metrics.js'

/** A queue as it is at one moment. */
interface QueueDepth {
  /** Its label: queues of one kind on different nodes have the same. */
  readonly queue: string
  /** How many jobs are in each state. */
  readonly jobs: Readonly<Record<string, number>>
  readonly oldestWaitingSeconds: number
}

/** Tells whether a service serves, and why not. */
export function reportReadiness(metrics: ServiceMetrics, notReady: () => Promise<readonly NotReady[]>): void {
  const up = metrics.gauge('strata_up')
  const reasons = metrics.gauge('strata_not_ready')
  metrics.onScrape(async () => {
    up.clear()
    reasons.clear()
    const found = await notReady()
    up.set({}, found.length === 0 ? 1 : 0)
    for (const reason of Object.keys(NOT_READY) as NotReady[]) reasons.set({ reason }, found.includes(reason) ? 1 : 0)
  })
}

/** Tells how much waits in queues. Nothing is told of them while `depths` fails or hangs. */
export function reportQueues(metrics: ServiceMetrics, depths: () => Promise<readonly QueueDepth[]>): void {
  const jobs = metrics.gauge('strata_queue_jobs')
  const oldest = metrics.gauge('strata_queue_oldest_waiting_seconds')
  metrics.onScrape(async () => {
    jobs.clear()
    oldest.clear()
    for (const { queue, jobs: counts, oldestWaitingSeconds } of await depths()) {
      for (const [state, count] of Object.entries(counts)) jobs.set({ queue, state }, count)
      oldest.set({ queue }, oldestWaitingSeconds)
    }
  })
}

/** Counts the runs of jobs: the `JobObserver` of `@strata/queue`. */
export function jobObserver(metrics: ServiceMetrics): {
  started(job: string): void
  ended(job: string, outcome: string, seconds: number): void
} {
  const started = metrics.counter('strata_jobs_started_total')
  const ended = metrics.counter('strata_jobs_ended_total')
  const duration = metrics.histogram('strata_job_duration_seconds')
  return {
    started: (job) => started({ job }),
    ended: (job, outcome, seconds) => {
      ended({ job, outcome })
      duration({ job }, seconds)
    },
  }
}

/** Counts the calls of a store: the `StoreObserver` of `@strata/store`. */
export function storeObserver(metrics: ServiceMetrics): (operation: string, outcome: string, seconds: number) => void {
  const calls = metrics.counter('strata_store_calls_total')
  const duration = metrics.histogram('strata_store_call_duration_seconds')
  return (operation, outcome, seconds) => {
    calls({ operation, outcome })
    duration({ operation }, seconds)
  }
}

/** Counts the looks into one cache. */
export function cacheObserver(
  metrics: ServiceMetrics,
  cache: 'views' | 'layers' | 'manifests',
): (isHit: boolean) => void {
  const requests = metrics.counter('strata_cache_requests_total')
  return (isHit) => requests({ cache, result: isHit ? 'hit' : 'miss' })
}
