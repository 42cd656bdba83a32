import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { openStore, partialUploads, storeConfigShape, type ObjectStore } from '@strata/store'
import { TestS3 } from '@strata/store/testing'
import { z } from 'zod'
import { TroubledProxy } from './proxy.js'

const storeConfig = z.object(storeConfigShape)

/** Where the services of a test keep their objects. */
export interface TestStore {
  readonly name: 'folder' | 'minio'
  /** What the services are told of it. */
  readonly environment: Record<string, string>
  /** The same store, opened by the test: it looks from outside. */
  readonly objects: ObjectStore
  /** The server, where there is one, and what the services reach it through. */
  readonly server?: TestS3
  readonly proxy?: TroubledProxy
  /** What of unfinished writes lies there, a line each. */
  unfinished(): Promise<string[]>
  remove(): Promise<void>
}

/** Those that every fault is tried on. */
export const STORES: readonly TestStore['name'][] = ['folder', 'minio']

/** In the folder, unless the environment names a place of its own. */
export function openTestStore(
  name: TestStore['name'],
  folder: string,
  environment: Record<string, string>,
): Promise<TestStore> {
  return name === 'folder' ? folderStore(environment['STRATA_STORE'] ?? join(folder, 'store')) : minioStore()
}

async function folderStore(folder: string): Promise<TestStore> {
  const environment = { STRATA_STORE: folder }
  const objects = await openStore(storeConfig.parse(environment))
  return {
    name: 'folder',
    environment,
    objects,
    unfinished: () => filesBelow(join(folder, 'tmp')),
    remove: () => objects.close(),
  }
}

async function minioStore(): Promise<TestStore> {
  const server = await TestS3.start('minio')
  const proxy = await TroubledProxy.start(server.endpoint)
  const objects = await openStore(storeConfig.parse(server.environment()))
  const environment = { ...(server.environment() as Record<string, string>), STRATA_S3_ENDPOINT: proxy.url }
  return {
    name: 'minio',
    environment,
    objects,
    server,
    proxy,
    unfinished: async () => {
      const left: string[] = []
      for await (const { key } of partialUploads(objects)?.listPartial() ?? []) left.push(`multipart upload of ${key}`)
      return left
    },
    remove: async () => {
      proxy.close()
      await objects.close()
      await server.remove()
    },
  }
}

async function filesBelow(folder: string): Promise<string[]> {
  const found = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => [])
  return found.filter((entry) => entry.isFile()).map((entry) => `unfinished: ${join(entry.parentPath, entry.name)}`)
}
