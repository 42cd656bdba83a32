import { closeSync, openSync, readFileSync, rmSync } from 'node:fs'
import { syncfs } from '@strata/linux'

/** Names this run of the kernel. */
export function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
}

/**
 * Writes out all of the file system, then takes the marks away: from now on these layers outlive a
 * loss of power.
 */
export function markSynced(marks: readonly string[], folder: string): undefined {
  const fd = openSync(folder, 'r')
  try {
    syncfs(fd)
  } finally {
    closeSync(fd)
  }
  for (const mark of marks) rmSync(mark, { force: true })
  return undefined
}
