import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { mendTail } from '../mend-tail.js'
import { FolderStore } from '../folder/folder-store.js'
import type { ObjectStore } from '../objects/object-store.js'

/** A folder store of a test's own, taken away by `dispose`. It is never synced to the disk. */
export async function temporaryStore(): Promise<{ store: FolderStore; dispose: () => Promise<void> }> {
  const root = mkdtempSync(join(tmpdir(), 'strata-store-'))
  const store = await FolderStore.open(root, mendTail, { sync: () => Promise.resolve() })
  return {
    store,
    dispose: async () => {
      await store.close()
      rmSync(root, { recursive: true })
    },
  }
}

/** The same store with the verbs alone, as S3 has them: no files, no conditional remove. */
export function withoutAbilities(store: ObjectStore): ObjectStore {
  return {
    put: store.put.bind(store),
    get: store.get.bind(store),
    read: store.read.bind(store),
    stat: store.stat.bind(store),
    create: store.create.bind(store),
    replace: store.replace.bind(store),
    list: store.list.bind(store),
    delete: store.delete.bind(store),
    close: store.close.bind(store),
  }
}
