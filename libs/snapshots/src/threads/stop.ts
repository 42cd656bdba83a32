import { StrataError } from '@strata/base'

/**
 * In a worker: the word that the one who gave the task sets when it is no longer wanted. Ending the
 * thread instead would leave its open files behind.
 */
let flag: Int32Array | undefined

export function setStopFlag(shared: Int32Array): void {
  flag = shared
}

/** Called wherever long work goes round. `cancelled`. */
export function throwIfStopped(): void {
  if (flag && Atomics.load(flag, 0) !== 0) throw new StrataError('cancelled', 'the work was cancelled')
}
