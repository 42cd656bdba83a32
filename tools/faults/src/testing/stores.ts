import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { openStore, partialUploads, storeConfigShape, type ObjectStore } from '@strata/store'
import { TestS3 } from '@strata/store/testing'
import { z } from 'zod'

const storeConfig = z.object(storeConfigShape)

/** Where the services of a test keep their objects. */
export interface TestStore {
  readonly name: 'folder' | 'minio'
  /** What the services are told of it. */
  readonly environment: Record<string, string>
  /** The same store, opened by the test: it looks from outside. */
  readonly objects: ObjectStore
  /** The server, where there is one. */
  readonly server?: TestS3
  /** What of unfinished writes lies there, a line each. */
  unfinished(): Promise<string[]>
  remove(): Promise<void>
}

/** Those that every fault is tried on. */
export const STORES: readonly TestStore['name'][] = ['folder', 'minio']

export function openTestStore(name: TestStore['name'], folder: string): Promise<TestStore> {
  return name === 'folder' ? folderStore(folder) : minioStore()
}

async function folderStore(folder: string): Promise<TestStore> {
  const environment = { STRATA_STORE: join(folder, 'store') }
  const objects = await openStore(storeConfig.parse(environment))
  return { name: 'folder', environment, objects, unfinished: () => filesBelow(join(folder, 'store', 'tmp')), remove: () => objects.close() }
}

async function minioStore(): Promise<TestStore> {
  const server = await TestS3.start('minio')
  const environment = server.environment() as Record<string, string>
  const objects = await openStore(storeConfig.parse(environment))
  return {
    name: 'minio', environment, objects, server,
    unfinished: async () => {
      const left: string[] = []
      for await (const { key } of partialUploads(objects)?.listPartial() ?? []) left.push(`multipart upload of ${key}`)
      return left
    },
    remove: async () => {
      await objects.close()
      await server.remove()
    },
  }
}

async function filesBelow(folder: string): Promise<string[]> {
  const found = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => [])
  return found.filter((entry) => entry.isFile()).map((entry) => `unfinished: ${join(entry.parentPath, entry.name)}`)
}
