import { randomUUID } from 'node:crypto'
import { StrataError } from '@strata/base'
import type { LeaseRun, Leases } from '../leases/leases.js'

/** So long blobs get the same hold. */
const SLOT_MS = 600_000
/** The record of a hold is written again if it was not for so long. */
const RENEW_MS = 60_000

/**
 * What holds a pushed blob until a manifest refers to it: a lease that a process shares among all
 * blobs that come to it in `SLOT_MS`. No request of a client uses it later, so it ends
 * `LEASE_EXPIRY_MS` after its last blob, less `RENEW_MS` at most.
 *
 * A lease for each blob would be a record for an hour after each upload, and the reaper reads all
 * of them at every sweep.
 */
export class PushHolds {
  #current: { readonly run: LeaseRun; readonly madeAt: number; renewedAt: number } | undefined
  #next: Promise<string> | undefined

  constructor(
    private readonly leases: Leases,
    private readonly now: () => number = () => performance.now(),
  ) {}

  /**
   * Runs work that holds a blob for the lease of now. If that was ended, because this process stood
   * still for too long, the work is run again with another one.
   */
  async hold<T>(work: (lease: string) => Promise<T>): Promise<T> {
    const lease = await this.#lease()
    try {
      return await work(lease)
    } catch (error) {
      if (!isInterrupted(error) || (await this.leases.mayLive(lease))) throw error
      if (this.#current?.run.lease === lease) this.#current = undefined
      return work(await this.#lease())
    }
  }

  async #lease(): Promise<string> {
    return (this.#next ??= this.#find().finally(() => (this.#next = undefined)))
  }

  async #find(): Promise<string> {
    const now = this.now()
    const current = this.#current
    if (current && now - current.madeAt < SLOT_MS) {
      if (now - current.renewedAt < RENEW_MS || (await this.#isRenewed(current.run))) {
        if (now - current.renewedAt >= RENEW_MS) current.renewedAt = now
        return current.run.lease
      }
    }
    const id = randomUUID()
    const run = await this.leases.create(id, { job: { kind: 'push', id }, request: {} })
    this.#current = { run, madeAt: now, renewedAt: now }
    return id
  }

  /** `false`: this process stood still for so long that the lease was ended. */
  async #isRenewed(run: LeaseRun): Promise<boolean> {
    try {
      await this.leases.touch(run)
      return true
    } catch (error) {
      if (isInterrupted(error)) return false
      throw error
    }
  }
}

function isInterrupted(error: unknown): boolean {
  return error instanceof StrataError && error.code === 'upload_interrupted'
}
