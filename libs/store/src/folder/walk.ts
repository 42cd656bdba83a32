import { readdir } from 'node:fs/promises'
import { join } from 'node:path'

/**
 * The keys of all files below `root` that begin with `prefix` and come behind `after`, in the order
 * of their bytes (keys are ASCII). A folder sorts as its name with a `/`: `a-b` comes before `a/c`,
 * since `-` is less than `/`.
 */
export async function* walkKeys(root: string, prefix: string, after: string): AsyncGenerator<string> {
  const folder = prefix.slice(0, prefix.lastIndexOf('/') + 1)
  yield* walkFolder(root, folder, prefix, after)
}

async function* walkFolder(root: string, folder: string, prefix: string, after: string): AsyncGenerator<string> {
  for (const key of await namesIn(root, folder)) {
    if (!key.startsWith(prefix)) continue
    if (!key.endsWith('/')) {
      if (key > after) yield key
    } else if (key > after || after.startsWith(key)) {
      yield* walkFolder(root, key, key, after)
    }
  }
}

/** The keys of the files in a folder and, with a `/` at the end, of the folders in it, sorted. */
async function namesIn(root: string, folder: string): Promise<string[]> {
  try {
    const entries = await readdir(join(root, folder), { withFileTypes: true })
    return entries.map((entry) => folder + entry.name + (entry.isDirectory() ? '/' : '')).sort()
  } catch (error) {
    if (error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR')) return []
    throw error
  }
}
