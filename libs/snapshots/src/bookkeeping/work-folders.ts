import { existsSync, renameSync } from 'node:fs'
import { asStrataError } from '@strata/base'
import type { Layout } from './layout.js'

/** Deletes a folder in `tmp`. */
export type Delete = (folder: string) => Promise<void>

/**
 * Deletes a folder whose name must be free at once: renames it into `tmp`, then deletes it there.
 * Does nothing if it does not exist.
 */
export async function deleteAtOnce(layout: Layout, path: string, deleteFolder: Delete): Promise<void> {
  const aside = layout.fresh()
  try {
    renameSync(path, aside)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
    throw error
  }
  await deleteFolder(aside)
}

/**
 * Gives out names in `tmp` for work in progress. Afterwards, folders that still have such a name
 * are deleted: the work failed. A full disk is `storage_full`.
 */
export async function withWorkFolders<T>(
  layout: Layout,
  deleteFolder: Delete,
  work: (fresh: () => string) => T | Promise<T>,
): Promise<T> {
  const made: string[] = []
  try {
    return await work(() => {
      const path = layout.fresh()
      made.push(path)
      return path
    })
  } catch (error) {
    throw (error as NodeJS.ErrnoException).code === 'ENOSPC' ? asStrataError(error) : error
  } finally {
    for (const path of made) if (existsSync(path)) await deleteFolder(path)
  }
}
