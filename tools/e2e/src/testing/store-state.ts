import { readdir, readFile } from 'node:fs/promises'
import { join, relative } from 'node:path'
import { until, type StrataUnderTest } from './strata.js'

const folderOf = (strata: StrataUnderTest): string => join(strata.data, 'store', 'objects')

/** The keys of the store's objects below the prefixes (`data/`, `uploads/`, `blobs/`, `images/`), sorted. */
export async function objectsOf(strata: StrataUnderTest, ...prefixes: string[]): Promise<string[]> {
  const root = folderOf(strata)
  const read = () => readdir(root, { recursive: true, withFileTypes: true })
  // A folder of the tree may go while it is read; then all is read again.
  let found = await read().catch(again)
  while (found === undefined) found = await read().catch(again)
  const keys = found.filter((entry) => entry.isFile()).map((entry) => relative(root, join(entry.parentPath, entry.name)))
  return keys.filter((key) => prefixes.some((prefix) => key.startsWith(prefix))).sort()
}

/** Uploads, and bytes that no blob's record points to: there are none once every load has ended, well or badly. */
export async function unfinished(strata: StrataUnderTest): Promise<string[]> {
  const left = new Set(await objectsOf(strata, 'uploads/', 'data/'))
  for (const key of await objectsOf(strata, 'blobs/')) {
    const record = await readFile(join(folderOf(strata), key), 'utf8').then((text) => JSON.parse(text) as { value?: { data: string } }, () => ({ value: undefined }))
    left.delete(record.value?.data ?? '')
  }
  return [...left]
}

/** Waits until nothing is under way, then gives all that a refused load may not add to. A layer's index may stay: it is made from bytes alone, and says nothing of any image. */
export async function settledStore(strata: StrataUnderTest): Promise<string[]> {
  let left: string[] = []
  await until(async () => (left = await unfinished(strata)).length === 0, 'nothing left of any upload', 20).catch((error: unknown) => {
    throw new Error(`left in the store: ${left.join(', ')}`, { cause: error })
  })
  return objectsOf(strata, 'data/', 'uploads/', 'blobs/', 'images/')
}

function again(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error
}
