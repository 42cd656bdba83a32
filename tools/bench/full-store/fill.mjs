import { linkSync, mkdirSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { dirname, join } from 'node:path'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { Images } from '@strata/images'
import { openStore, PREFIX, UsedIds } from '@strata/store'
import { throwIfInterrupted } from '../processes.mjs'
import { Contents, SHARED } from './contents.mjs'

/** ext4 gives a file at most 65,000 names. */
const LINKS = 60_000
const PUTS_AT_ONCE = 16

/**
 * Fills the store that `environment` names, which is empty, with all objects of `contents`. Into a
 * folder it writes their files, without the store: each is as the folder store leaves it.
 */
export async function fillStore(environment, contents) {
  const store = await openStore({ STRATA_S3_REGION: 'us-east-1', ...environment })
  try {
    // What the storage service does at its first start, when there is nothing yet to go over.
    await new UsedIds(store).markAll()
    await new Images(store).markNames()
    if (!environment.STRATA_S3_ENDPOINT) await inThreads(join(environment.STRATA_STORE, 'objects'), contents)
    else await put(store, contents)
  } finally {
    await store.close()
  }
}

async function inThreads(folder, { repositories, tags }) {
  const parts = availableParallelism()
  const workers = Array.from(
    { length: parts },
    (_, part) =>
      new Worker(new URL(import.meta.url), { workerData: { folder, sizes: { repositories, tags }, part, parts } }),
  )
  await Promise.all(
    workers.map((worker) => new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject))),
  )
}

function writeFiles({ folder, sizes, part, parts }) {
  /** A file with these bytes, and how many names it has. */
  const files = new Map()
  for (const [key, bytes] of new Contents(sizes).objects(part, parts)) {
    const path = join(folder, key)
    const file = files.get(bytes)
    if (file && file.names < LINKS) {
      file.names++
      inFolder(path, () => linkSync(file.path, path))
      continue
    }
    inFolder(path, () => writeFileSync(path, bytes, { flag: 'wx', mode: 0o444 }))
    if (SHARED.has(bytes)) files.set(bytes, { path, names: 1 })
  }
}

function inFolder(path, make) {
  try {
    make()
  } catch (error) {
    if (error.code !== 'ENOENT') throw error
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
    make()
  }
}

async function put(store, contents) {
  const objects = contents.objects()
  await Promise.all(
    Array.from({ length: PUTS_AT_ONCE }, async () => {
      for (const [key, bytes] of objects) {
        throwIfInterrupted()
        await (key.startsWith(PREFIX.data) ? store.put(key, bytes) : store.create(key, bytes))
      }
    }),
  )
}

if (!isMainThread) {
  writeFiles(workerData)
  parentPort.postMessage('done')
}
