import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { openStore, storeConfigShape, type ObjectStore } from '@strata/store'
import { z } from 'zod'

const storeConfig = z.object(storeConfigShape)

/** Where the services of a test keep their objects. */
export interface TestStore {
  readonly name: 'folder' | 'minio'
  /** What the services are told of it. */
  readonly environment: Record<string, string>
  /** The same store, opened by the test: it looks from outside. */
  readonly objects: ObjectStore
  /** What of unfinished writes lies there, a line each. */
  unfinished(): Promise<string[]>
  remove(): Promise<void>
}

export async function folderStore(folder: string): Promise<TestStore> {
  const environment = { STRATA_STORE: join(folder, 'store') }
  const objects = await openStore(storeConfig.parse(environment))
  return { name: 'folder', environment, objects, unfinished: () => filesBelow(join(folder, 'store', 'tmp')), remove: () => objects.close() }
}

async function filesBelow(folder: string): Promise<string[]> {
  const found = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => [])
  return found.filter((entry) => entry.isFile()).map((entry) => `unfinished: ${join(entry.parentPath, entry.name)}`)
}

/** Those that every fault is tried on. */
export const STORES: readonly TestStore['name'][] = ['folder']
