import { lstat, opendir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { threadFor } from '../threads/run-worker.js'
import type { tasks } from './tasks.js'

const inThread = threadFor<typeof tasks>('trees')

/**
 * Trees of at most so many entries are removed without a thread: a container that wrote next to
 * nothing has about five.
 */
const FEW = 64
/** Trees of at most so many entries do not wait for larger ones, whose removal may take minutes. */
const SOME = 10_000

/**
 * The last removal that was begun in each line. In a line one goes at a time: each takes a thread,
 * and the disk is what they wait for.
 */
const lines = { short: Promise.resolve<unknown>(undefined), long: Promise.resolve<unknown>(undefined) }

/**
 * Removes what a container or a layer wrote: any number of files, of any depth and names.
 *
 * `fs.rm` reads each folder whole and begins all of its entries at once, on this thread: a folder
 * of 400,000 files holds the event loop for a minute and takes 900 MB. So it gets only trees that
 * were seen to be small.
 */
export async function deleteTree(path: string): Promise<void> {
  let line: keyof typeof lines = 'long'
  try {
    const entries = await entriesOf(path)
    if (entries <= FEW) return await rm(path, { recursive: true })
    if (entries <= SOME) line = 'short'
  } catch {
    // The worker tries again: it knows paths over 4,096 bytes and names that are no UTF-8. What it
    // cannot do either, it tells.
  }
  const removal = lines[line].then(() => inThread('remove', path))
  lines[line] = removal.catch(() => undefined)
  await removal
}

/** How many there are; of more than SOME only that there are more. */
async function entriesOf(path: string): Promise<number> {
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
