import { readdirSync, type Dirent } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { isErrno } from './object-file.js'

/**
 * Gives the names in a folder from `from` on, in the order of their bytes, in parts. The name of a
 * folder ends with `/`. A folder is named by the beginning of its keys: `a/b/`.
 */
type NamesOf = (folder: string, from: string) => AsyncIterable<readonly string[]>

/**
 * The keys of all files that begin with `prefix` and come behind `after`, in the order of their
 * bytes (keys are ASCII). A folder sorts as its name with a `/`: `a-b` comes before `a/c`, since
 * `-` is less than `/`. In no folder does it ask for names that come before the first wanted key.
 */
export async function* walkKeys(namesOf: NamesOf, prefix: string, after: string): AsyncGenerator<string> {
  const folder = prefix.slice(0, prefix.lastIndexOf('/') + 1)
  if (after < folder || after.startsWith(folder)) yield* walkFolder(namesOf, folder, prefix, after)
}

async function* walkFolder(namesOf: NamesOf, folder: string, prefix: string, after: string): AsyncGenerator<string> {
  for await (const names of namesOf(folder, firstName(folder, prefix, after)))
    for (const name of names) {
      const key = folder + name
      if (!key.startsWith(prefix)) {
        if (key > prefix) return
      } else if (!key.endsWith('/')) {
        if (key > after) yield key
      } else if (key > after || after.startsWith(key)) {
        yield* walkFolder(namesOf, key, key, after)
      }
    }
}

/** The first name of the folder that may lead to a wanted key. */
function firstName(folder: string, prefix: string, after: string): string {
  const wanted = prefix.slice(folder.length)
  if (!after.startsWith(folder)) return wanted
  const [name = '', ...below] = after.slice(folder.length).split('/')
  const behind = below.length > 0 ? `${name}/` : name
  return behind > wanted ? behind : wanted
}

/** The names in the folders below `root`, each folder read whole. */
export function namesBelow(root: string): NamesOf {
  return async function* (folder) {
    yield await namesIn(join(root, folder))
  }
}

/**
 * The names in a folder, sorted, with a `/` behind those of folders. None if there is no such
 * folder.
 */
export async function namesIn(path: string): Promise<string[]> {
  try {
    return sorted(await readdir(path, { withFileTypes: true }))
  } catch (error) {
    return ifAbsent(error)
  }
}

/** The same of a small folder, without a trip to the thread pool. */
export function namesNow(path: string): string[] {
  try {
    return sorted(readdirSync(path, { withFileTypes: true }))
  } catch (error) {
    return ifAbsent(error)
  }
}

function sorted(entries: readonly Dirent[]): string[] {
  return entries.map((entry) => entry.name + (entry.isDirectory() ? '/' : '')).sort()
}

function ifAbsent(error: unknown): string[] {
  if (isErrno(error, 'ENOENT', 'ENOTDIR')) return []
  throw error
}
