import { setTimeout as sleep } from 'node:timers/promises'
import { StrataError } from '@strata/base'
import type { RemoteLimits } from '../limits.js'
import type { RemoteOptions } from '../remote-repository.js'
import { Unavailable } from './unavailable.js'

/**
 * Counts attempts that bring nothing, and waits between them: as long as the server asks, or twice
 * as long each time, by chance between half of it and all, so that clients do not come together.
 */
export class Attempts {
  #failed = 0

  constructor(
    private readonly limits: RemoteLimits,
    private readonly options: RemoteOptions,
    /** Whether the registry ever answered. */
    private readonly hasAnswered: () => boolean,
  ) {}

  /** Something came: what failed before is forgotten. */
  progress(): void {
    this.#failed = 0
  }

  /** @throws the error if it is final, or was the last; the signal's reason */
  async wait(error: unknown): Promise<void> {
    const { signal, onWait } = this.options
    signal.throwIfAborted()
    if (!(error instanceof Unavailable)) throw error
    this.#failed++
    const { maxAttempts, maxFirstAttempts } = this.limits
    const most = this.hasAnswered() ? maxAttempts : Math.min(maxAttempts, maxFirstAttempts)
    if (this.#failed >= most)
      throw most === 1
        ? error
        : new StrataError('registry_unavailable', `${error.message}, after ${most} attempts`, { cause: error })
    const ms = this.#pause(error)
    onWait?.(error.message, ms)
    try {
      await sleep(ms, undefined, { signal })
    } catch {
      signal.throwIfAborted()
    }
  }

  #pause({ retryAfterMs }: Unavailable): number {
    const { firstPauseMs, maxPauseMs, maxRetryAfterMs } = this.limits
    if (retryAfterMs !== undefined) return Math.min(retryAfterMs, maxRetryAfterMs)
    const full = Math.min(firstPauseMs * 2 ** (this.#failed - 1), maxPauseMs)
    return Math.round(full * (0.5 + Math.random() / 2))
  }
}

/** Does a work until it ends well. */
export async function withAttempts<T>(attempts: Attempts, work: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await work()
    } catch (error) {
      await attempts.wait(error)
    }
  }
}

/** RFC 9110, 10.2.3: seconds, or a date. What is neither counts as none. */
export function retryAfterMs(value: string | undefined, now: number): number | undefined {
  if (value === undefined) return undefined
  if (/^\d{1,9}$/.test(value)) return Number(value) * 1000
  const at = /^[A-Za-z]{3},? /.test(value) ? Date.parse(value) : NaN
  return Number.isNaN(at) ? undefined : Math.max(at - now, 0)
}
