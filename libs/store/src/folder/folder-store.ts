import { closeSync, existsSync, linkSync, lstatSync, mkdirSync, openSync, renameSync, unlinkSync } from 'node:fs'
import { chmod, open, rename, unlink, type FileHandle } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { Readable } from 'node:stream'
import { setImmediate } from 'node:timers/promises'
import { ownFolder, UnusableFile } from '@strata/linux'
import { asStrataError, StrataError } from '@strata/base'
import { checkKey, checkPrefix } from '../keys.js'
import {
  MAX_RECORD_BYTES,
  type ByteRange,
  type ByteSource,
  type ConditionalRemove,
  type Etag,
  type ListedObject,
  type LocalObjects,
  type ObjectInfo,
  type ObjectPage,
  type ObjectStore,
} from '../objects/object-store.js'
import { abortable, cancelled } from '../objects/abortable.js'
import { checkRange } from '../objects/byte-range.js'
import { DurableFolder, type DurableFolderOptions } from './durable-folder.js'
import { EmptyFolders } from './empty-folders.js'
import { Listing } from './listing.js'
import { StripedLocks } from './locks.js'
import { contentEtag, isErrno, lookNow, openObject, statNow, writeDraft } from './object-file.js'
import { onTheWay } from './on-the-way.js'
import { Scratch } from './scratch.js'
import { walkKeys } from './walk.js'

/**
 * Examines the objects with the keys `tail`, which may not have reached the disk before a loss of
 * power: each may be absent, short, or zeros. Deletes what is damaged, and what needs that. No
 * other process has the store open. It may die at any line: the next process runs it again. `warn`
 * gets a line for each thing that a user has lost.
 */
type MendObjects = (
  store: ObjectStore & ConditionalRemove,
  tail: readonly string[],
  warn: (message: string) => void,
) => Promise<void>

const PAGE = 1_000
const READ_CHUNK = 256 * 1024
/** After looks that took so long, in ms, of all callers together, the event loop gets a turn. */
const TURN_MS = 5

/**
 * Objects as files of a folder: `<root>/objects/<key>`, with `<root>/tmp` for what is no object yet
 * and `<root>/locks`. Any number of processes and threads of one machine may have it open. The
 * names of large folders are held in memory, for lists (Listing).
 *
 * A file gets its name when it is complete: by link(2), which fails if the name is taken (`put`,
 * `create`), or by rename(2) under the key's lock after its tag was compared (`replace`).
 *
 * **Durability.** A commit survives any process's death at once, and a loss of power after the next
 * sync of the file system, which is started at most 5 s later. The first process that opens the
 * store after a reboot examines what was committed after the last sync and deletes what is damaged
 * (DurableFolder, `mend` of `open`). Other processes open the store after that.
 */
export class FolderStore implements ObjectStore, LocalObjects, ConditionalRemove {
  readonly #objects: string
  readonly #empty: EmptyFolders
  /** How long looks took since they last gave the event loop a turn, in ms. */
  #lookedMs = 0
  #nextTurn: Promise<void> | undefined

  private constructor(
    root: string,
    private readonly scratch: Scratch,
    private readonly locks: StripedLocks,
    private readonly durable: DurableFolder,
    private readonly listing: Listing,
  ) {
    this.#objects = join(root, 'objects')
    this.#empty = new EmptyFolders(this.#objects)
  }

  /**
   * Makes the folder if it is missing, and deletes what dead processes left in `tmp`. The first
   * process of a boot also calls `mend`, which repairs what a loss of power has damaged. For
   * Strata's data that is `mendTail`.
   */
  static async open(root: string, mend: MendObjects, options: DurableFolderOptions = {}): Promise<FolderStore> {
    return guarded(async () => {
      ownFolder(join(root, 'objects'))
      const durable = new DurableFolder(root, options)
      const store = new FolderStore(
        root,
        await Scratch.open(join(root, 'tmp')),
        new StripedLocks(join(root, 'locks')),
        durable,
        new Listing(join(root, 'objects'), { warn: durable.warn }),
      )
      try {
        await durable.recover(['objects/'], (tail) =>
          mend(
            store,
            tail.map((path) => path.slice('objects/'.length)),
            durable.warn,
          ),
        )
      } catch (error) {
        await store.close()
        throw error
      }
      return store
    })
  }

  async put(key: string, source: ByteSource, options: { signal?: AbortSignal } = {}): Promise<ObjectInfo> {
    const path = this.localPath(key)
    if (options.signal?.aborted) throw cancelled()
    const draft = this.scratch.path()
    try {
      await guarded(() => open(draft, 'wx', 0o444)).then(async (file) => {
        try {
          await writeAll(file, source, options.signal)
        } finally {
          await file.close()
        }
      })
      if (!(await guarded(() => this.#name(draft, path)))) throw usedBefore(key)
    } catch (error) {
      await unlink(draft).catch(() => undefined)
      throw error
    }
    this.durable.committed()
    return this.#mustStat(key)
  }

  async get(key: string, range?: ByteRange): Promise<(ObjectInfo & { readonly body: Readable }) | undefined> {
    const path = this.localPath(key)
    if (range) checkRange(range)
    return guarded(async () => {
      const seen = await this.#look(path, lookNow)
      if (!seen) return undefined
      const { bytes, size, etag } = seen
      const start = Math.min(range?.start ?? 0, size)
      const end = Math.min(range?.end ?? size, size)
      if (bytes || start === end) {
        const part = start === end ? [] : [bytes!.subarray(start, end)]
        return { size, etag, body: Readable.from(part, { objectMode: false }) }
      }
      const handle = await openObject(path)
      return handle && { size, etag, body: handle.createReadStream({ start, end: end - 1, highWaterMark: READ_CHUNK }) }
    })
  }

  async read(key: string, maxBytes: number): Promise<{ readonly bytes: Buffer; readonly etag: Etag } | undefined> {
    const path = this.localPath(key)
    return guarded(async () => {
      const seen = await this.#look(path, lookNow)
      if (!seen) return undefined
      if (seen.size > maxBytes)
        throw new StrataError('limit_exceeded', `${key} has ${seen.size} bytes; at most ${maxBytes} are read`)
      if (seen.bytes) return seen
      const handle = await openObject(path)
      return handle && { bytes: await handle.readFile().finally(() => handle.close()), etag: seen.etag }
    })
  }

  async stat(key: string): Promise<ObjectInfo | undefined> {
    const path = this.localPath(key)
    return guarded(async () => {
      const seen = await this.#look(path, statNow)
      return seen && { size: seen.size, etag: seen.etag }
    })
  }

  async create(key: string, bytes: Uint8Array): Promise<Etag | undefined> {
    const path = this.localPath(key)
    return this.#withDraft(bytes, async (draft) =>
      (await this.#name(draft, path)) ? this.#tagOf(path, bytes) : undefined,
    )
  }

  async replace(key: string, bytes: Uint8Array, etag: Etag): Promise<Etag | undefined> {
    const path = this.localPath(key)
    return this.#withDraft(bytes, async (draft) => {
      // A name may reach the disk before the bytes behind it (XFS), and what is on disk must not be
      // lost to its successor.
      if (this.durable.isOnDisk(path)) await makeDurable(draft)
      return this.locks.exclusively(key, async () => {
        if (statNow(path)?.etag !== etag) return undefined
        // Over a file that is there, ext4 first hands the new one's bytes to the disk
        // (auto_da_alloc in ext4.rst): seconds while that is busy.
        await rename(draft, path)
        return this.#tagOf(path, bytes)
      })
    })
  }

  async list(prefix: string, options: { after?: string; limit?: number } = {}): Promise<ObjectPage> {
    checkPrefix(prefix)
    const limit = options.limit ?? PAGE
    if (!(limit >= 1)) throw new StrataError('bad_request', `a page of ${limit} objects cannot be listed`)
    return guarded(async () => {
      const keys: string[] = []
      let more = false
      const names = (folder: string, from: string) => this.#namesIn(folder, from)
      for await (const key of walkKeys(names, prefix, options.after ?? '')) {
        more = keys.length === Math.min(limit, PAGE)
        if (more) break
        keys.push(key)
      }
      const last = keys.at(-1)
      return { objects: await this.#listed(keys), ...(more && last !== undefined ? { next: last } : {}) }
    })
  }

  async delete(keys: readonly string[]): Promise<void> {
    for (const key of keys) await this.#remove(key, () => true)
  }

  async removeUnchanged(key: string, etag: Etag): Promise<boolean> {
    return this.#remove(key, (path) => statNow(path)?.etag === etag)
  }

  localPath(key: string): string {
    return join(this.#objects, checkKey(key))
  }

  async openLocal(key: string): Promise<{ readonly file: FileHandle; readonly size: number } | undefined> {
    const path = this.localPath(key)
    return guarded(async () => {
      const file = await openObject(path)
      if (!file) return undefined
      try {
        return { file, size: (await file.stat()).size }
      } catch (error) {
        await file.close()
        throw error
      }
    })
  }

  async createLocal(key: string): Promise<string> {
    const path = this.localPath(key)
    return guarded(async () => {
      // The file is there before the path is given away: an empty folder may be removed by a delete
      // at any time.
      await this.#inFolderOf(path, () => closeSync(openSync(path, 'wx', 0o644))).catch((error: unknown) => {
        throw isErrno(error, 'EEXIST') ? usedBefore(key) : error
      })
      return path
    })
  }

  async sealLocal(key: string): Promise<ObjectInfo> {
    const path = this.localPath(key)
    await guarded(() => chmod(path, 0o444))
    this.durable.committed()
    return this.#mustStat(key)
  }

  async close(): Promise<void> {
    await this.#empty.close()
    this.durable.close()
    this.listing.close()
    this.scratch.close()
  }

  /** For a list. What it finds empty is removed. */
  async *#namesIn(folder: string, from: string): AsyncGenerator<readonly string[]> {
    let isEmpty = from === ''
    for await (const names of this.listing.names(folder, from)) {
      isEmpty &&= names.length === 0
      yield names
    }
    if (isEmpty) await this.#empty.add(join(this.#objects, folder))
  }

  /** Gives a finished draft its name in place of the one it had; `false` if the name is taken. */
  async #name(draft: string, path: string): Promise<boolean> {
    try {
      await this.#inFolderOf(path, () => linkSync(draft, path))
    } catch (error) {
      if (isErrno(error, 'EEXIST')) return false
      throw error
    }
    discard(draft)
    return true
  }

  /** `commit` gives the draft its name, or gives `undefined`. */
  async #withDraft(bytes: Uint8Array, commit: (draft: string) => Promise<Etag | undefined>): Promise<Etag | undefined> {
    const draft = this.scratch.path()
    return guarded(async () => {
      let etag: Etag | undefined
      try {
        await writeDraft(draft, bytes)
        etag = await commit(draft)
      } finally {
        // An unlink of what has been renamed costs an exception, ten times as much as an unlink.
        if (etag === undefined) discard(draft)
      }
      if (etag !== undefined) this.durable.committed()
      return etag
    })
  }

  #tagOf(path: string, bytes: Uint8Array): Etag | undefined {
    return bytes.length <= MAX_RECORD_BYTES ? contentEtag(bytes) : statNow(path)?.etag
  }

  async #mustStat(key: string): Promise<ObjectInfo> {
    const info = await this.stat(key)
    if (!info) throw new StrataError('store_unavailable', `${key} is gone right after it was written`)
    return info
  }

  /**
   * The objects of a page, each read for its ETag; those that were deleted since are left out.
   */
  async #listed(keys: readonly string[]): Promise<ListedObject[]> {
    const objects: ListedObject[] = []
    for (const key of keys) {
      const seen = await this.#look(join(this.#objects, key), statNow)
      if (seen) objects.push({ key, size: seen.size, etag: seen.etag })
    }
    return objects
  }

  /**
   * Looks at an object. If looks took long, all callers wait for the next turn of the event loop: a
   * promise that is kept at once gives it none. The time counts, not their number, since a look
   * reads and hashes up to 256 KiB.
   */
  async #look<T>(path: string, look: (path: string) => T | undefined): Promise<T | undefined> {
    while (this.#lookedMs > TURN_MS) await this.#turn()
    const begun = performance.now()
    try {
      return look(path)
    } finally {
      this.#lookedMs += performance.now() - begun
    }
  }

  #turn(): Promise<void> {
    return (this.#nextTurn ??= setImmediate().then(() => {
      this.#lookedMs = 0
      this.#nextTurn = undefined
    }))
  }

  async #remove(key: string, mayGo: (path: string) => boolean): Promise<boolean> {
    const path = this.localPath(key)
    return guarded(async () => {
      // Renamed under the lock, deleted outside of it, and a large file apart from the event loop:
      // freeing its blocks takes long.
      const grave = this.scratch.path()
      const gone = await this.locks.exclusively(key, () => mayGo(path) && moveIfThere(path, grave))
      if (!gone) return false
      if (lstatSync(grave).size <= MAX_RECORD_BYTES) unlinkSync(grave)
      else await unlink(grave)
      await this.#empty.add(dirname(path))
      return true
    })
  }

  /**
   * Runs `work`, which makes something at `path`. If the folder of `path` is missing, makes it and
   * runs `work` again: a delete in another process may remove the empty folder at any time.
   */
  async #inFolderOf<T>(path: string, work: () => T | Promise<T>): Promise<T> {
    try {
      for (let attempt = 0; ; attempt++) {
        try {
          return await work()
        } catch (error) {
          if (!isErrno(error, 'ENOENT') || attempt === 20) throw error
          mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
        }
      }
    } catch (error) {
      // Who finds the name taken has made no folder.
      if (isErrno(error, 'EEXIST')) throw error
      let made = dirname(path)
      while (!existsSync(made)) made = dirname(made)
      await this.#empty.remove(made)
      throw error
    }
  }
}

async function writeAll(file: FileHandle, source: ByteSource, signal: AbortSignal | undefined): Promise<void> {
  if (source instanceof Uint8Array) return guarded(() => file.writeFile(source))
  // The source's own errors come out as they are; what the disk says becomes one of ours.
  let fault: { error: unknown } | undefined
  async function* watched(chunks: AsyncIterable<Uint8Array>) {
    try {
      yield* abortable(chunks, signal)
    } catch (error) {
      fault = { error }
      throw error
    }
  }
  try {
    await file.writeFile(onTheWay(file.fd, watched(source)))
  } catch (error) {
    if (fault) throw fault.error
    throw asStoreError(error)
  }
}

async function makeDurable(path: string): Promise<void> {
  const file = await open(path, 'r')
  try {
    await file.datasync()
  } finally {
    await file.close()
  }
}

/** Deletes a draft that was not renamed. What a failing disk keeps is deleted by the next start. */
function discard(draft: string): void {
  try {
    unlinkSync(draft)
  } catch {
    return
  }
}

function usedBefore(key: string): StrataError {
  return new StrataError('internal', `the key ${key} was used before`)
}

function moveIfThere(from: string, to: string): boolean {
  try {
    renameSync(from, to)
    return true
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return false
    throw error
  }
}

async function guarded<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw asStoreError(error)
  }
}

function asStoreError(error: unknown): StrataError {
  if (error instanceof StrataError) return error
  if (error instanceof UnusableFile) return new StrataError('store_unavailable', error.message, { cause: error })
  const message = error instanceof Error ? error.message : String(error)
  if (isErrno(error, 'ENOSPC', 'EDQUOT'))
    return new StrataError('storage_full', `the store's folder has no space left: ${message}`, { cause: error })
  if (error instanceof Error && 'code' in error)
    return new StrataError('store_unavailable', `the store's folder failed: ${message}`, { cause: error })
  return asStrataError(error)
}
