import { closeSync, openSync, rmSync } from 'node:fs'
import { syncfs } from '@strata/linux'

/**
 * Syncs the whole file system, then deletes the marks. From then on these layers outlive a loss of
 * power.
 */
export function markSynced({ folder, marks }: { readonly folder: string; readonly marks: readonly string[] }): void {
  const fd = openSync(folder, 'r')
  try {
    syncfs(fd)
  } finally {
    closeSync(fd)
  }
  for (const mark of marks) rmSync(mark, { force: true })
}
