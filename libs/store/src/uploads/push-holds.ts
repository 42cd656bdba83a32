import { randomUUID } from 'node:crypto'
import { StrataError } from '@strata/base'
import type { LeaseRun, Leases } from '../leases/leases.js'

/**
 * A process uses one lease for all blobs of a part of the hold's time; and renews its record if
 * that was not written for a smaller part.
 */
const SLOTS = 6
const RENEWALS = 60

/**
 * Holds a blob that a client was told of until a manifest refers to it. A process uses one lease
 * for all blobs of a sixth of `holdMs`. No later request uses that lease, so it ends `holdMs` after
 * its last blob, or up to a sixtieth of that earlier.
 *
 * A lease for each blob would be a record for the whole time behind each of them, and the reaper
 * lists all leases at every sweep.
 */
export class PushHolds {
  #current: { readonly run: LeaseRun; readonly madeAt: number; renewedAt: number } | undefined
  #next: Promise<string> | undefined

  constructor(
    private readonly leases: Leases,
    private readonly holdMs: number,
    private readonly now: () => number = () => performance.now(),
  ) {}

  /**
   * Runs `work`, which holds a blob for the current lease. If that lease was ended, because this
   * process stood still for too long, runs `work` once more with a new lease.
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
    if (current && now - current.madeAt < this.holdMs / SLOTS) {
      const isFresh = now - current.renewedAt < this.holdMs / RENEWALS
      if (isFresh || (await this.#isRenewed(current.run))) {
        if (!isFresh) current.renewedAt = now
        return current.run.lease
      }
    }
    const id = randomUUID()
    const run = await this.leases.create(id, { job: { kind: 'hold', id }, request: {} })
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
