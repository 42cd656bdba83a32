import { open, rename, type FileHandle } from 'node:fs/promises'
import { dirname } from 'node:path'

/** Makes a folder's entries (a file made, renamed or removed in it) survive a loss of power. */
export async function syncFolder(folder: string): Promise<void> {
  await using handle: FileHandle = await open(folder, 'r')
  await handle.sync()
}

/**
 * Replaces a file as a whole: a reader, and who starts after a crash, sees the old bytes or the
 * new, never a part. `durable` waits until the disk has them; without it the process may die at any
 * time, but power may not fail.
 */
export async function replaceFile(
  path: string,
  bytes: string,
  options: { durable: boolean; mode?: number },
): Promise<void> {
  const fresh = `${path}.new`
  {
    await using handle: FileHandle = await open(fresh, 'w', options.mode ?? 0o600)
    await handle.writeFile(bytes)
    if (options.durable) await handle.sync()
  }
  await rename(fresh, path)
  if (options.durable) await syncFolder(dirname(path))
}
