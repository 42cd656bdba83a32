import { readdir } from 'node:fs/promises'
import { join, relative } from 'node:path'
import type { StrataUnderTest } from './strata.js'

/** The keys of the store's objects below a prefix (`data/`, `uploads/`, `blobs/`, `images/`), sorted. */
export async function objectsOf(strata: StrataUnderTest, ...prefixes: string[]): Promise<string[]> {
  const root = join(strata.data, 'store', 'objects')
  const found = await readdir(root, { recursive: true, withFileTypes: true }).catch(gone)
  const keys = found.filter((entry) => entry.isFile()).map((entry) => relative(root, join(entry.parentPath, entry.name)))
  return keys.filter((key) => prefixes.some((prefix) => key.startsWith(prefix))).sort()
}

/** All that a refused load may not add to. A layer's index may stay: it is made from bytes alone, and says nothing of any image. */
export const storeState = (strata: StrataUnderTest): Promise<string[]> => objectsOf(strata, 'data/', 'uploads/', 'blobs/', 'images/')

/** A folder of the tree went while it was read. */
function gone(error: NodeJS.ErrnoException): [] {
  if (error.code === 'ENOENT') return []
  throw error
}
