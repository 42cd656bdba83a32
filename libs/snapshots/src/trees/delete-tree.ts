import { lstat, opendir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { SerialByKey } from '@strata/base'
import { threadFor } from '../threads/run-worker.js'
import type { tasks } from './tasks.js'

const inThread = threadFor<typeof tasks>('trees')

/**
 * A tree with at most this many entries is deleted without a thread. A container that wrote next to
 * nothing has about five.
 */
const FEW = 64
/** A tree with at most this many entries does not wait for larger ones, which may take minutes. */
const SOME = 10_000

/** A line deletes one tree at a time: each takes a thread, and the disk limits them all. */
const lines = new SerialByKey<'short' | 'long'>()

/**
 * Deletes a tree that a container or a layer wrote: any number of files, of any depth and names.
 *
 * `fs.rm` reads each folder completely and begins all of its entries at once, on this thread. A
 * folder of 400,000 files stops the event loop for a minute and takes 900 MB. So `fs.rm` gets only
 * trees that were counted and are small.
 */
export async function deleteTree(path: string): Promise<void> {
  let line: 'short' | 'long' = 'long'
  try {
    const entries = await countEntries(path)
    if (entries <= FEW) return await rm(path, { recursive: true })
    if (entries <= SOME) line = 'short'
  } catch {
    // The worker tries again: it can delete paths over 4,096 bytes and names that are not UTF-8. It
    // reports what it cannot delete either.
  }
  await lines.run(line, () => inThread('remove', path))
}

/** The number of entries. Stops counting after SOME. */
async function countEntries(path: string): Promise<number> {
  if (!(await lstat(path)).isDirectory()) return 1
  const folders = [path]
  let entries = 0
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
    for await (const entry of await opendir(folder, { bufferSize: 512 })) {
      if (++entries > SOME) return entries
      if (entry.isDirectory()) folders.push(join(folder, entry.name))
    }
  }
  return entries
}
