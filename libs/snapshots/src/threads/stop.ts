import { StrataError } from '@strata/base'

/**
 * In a worker: the flag that the thread which gave the task sets when it no longer wants the
 * result. (To terminate the thread instead would leave its files open.)
 */
let flag: Int32Array | undefined

/** Sets the flag of the task that begins now. */
export function setStopFlag(shared: Int32Array): void {
  flag = shared
}

/**
 * Long work calls this in each round.
 * @throws StrataError `cancelled`
 */
export function throwIfStopped(): void {
  if (flag && Atomics.load(flag, 0) !== 0) throw new StrataError('cancelled', 'the work was cancelled')
}
