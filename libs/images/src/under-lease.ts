import { randomUUID } from 'node:crypto'
import { HEARTBEAT_MS, type LeaseRun, type Leases } from '@strata/store'

/**
 * Runs work under a lease of its own, so that it can hold blobs. This process keeps the lease alive
 * until the work ends, and then ends it.
 */
export async function underLease<T>(leases: Leases, work: (run: LeaseRun) => Promise<T>): Promise<T> {
  const lease = randomUUID()
  const run = await leases.create(lease, { job: { kind: 'tag', id: lease }, request: {} })
  const beat = setInterval(() => void leases.touch(run).catch(() => undefined), HEARTBEAT_MS)
  let as: 'done' | 'failed' = 'failed'
  try {
    const result = await work(run)
    as = 'done'
    return result
  } finally {
    clearInterval(beat)
    await leases.endBy(run, as)
  }
}
