import { existsSync, renameSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { asStrataError } from '@strata/oci'
import type { SnapshotFolder } from './folder.js'
import { runWorker } from './run-worker.js'

/** Takes a folder away by one rename, then deletes it at leisure. Nothing if it is not there. */
export async function discard(folder: SnapshotFolder, path: string): Promise<void> {
  const aside = folder.fresh()
  try {
    renameSync(path, aside)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
    throw error
  }
  await deleteTree(aside)
}

/** Node's own removal is the quick one for the few files of most containers, but knows neither paths over 4,096 bytes nor names that are no UTF-8. */
export async function deleteTree(path: string): Promise<void> {
  try {
    await rm(path, { recursive: true })
  } catch {
    await runWorker({ task: 'remove', folder: path })
  }
}

/** Gives out names in `tmp` for work in progress; what of them is still there at the end, since the work failed, is removed. A full disk is `storage_full`. */
export async function withWorkFolders<T>(folder: SnapshotFolder, work: (fresh: () => string) => T | Promise<T>): Promise<T> {
  const made: string[] = []
  try {
    return await work(() => {
      const path = folder.fresh()
      made.push(path)
      return path
    })
  } catch (error) {
    throw (error as NodeJS.ErrnoException).code === 'ENOSPC' ? asStrataError(error) : error
  } finally {
    for (const path of made) if (existsSync(path)) await deleteTree(path)
  }
}
