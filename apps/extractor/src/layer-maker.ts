import { randomUUID } from 'node:crypto'
import { constants } from 'node:fs'
import { chmod, copyFile, link, mkdir, open, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import {
  buildMemory,
  COMPRESSION_HEAD,
  detectCompression,
  INDEX_MEMORY,
  PACKED_LIMITS,
  stackMemory,
  type PackedLimits,
} from '@strata/archive'
import { IndexMemory, LayerIndex, type LayerFolder, type SharedMemory } from '@strata/layers'
import { flock, ownFolder } from '@strata/linux'
import { failpoint, SingleFlightByKey, StrataError } from '@strata/base'
import { type DiffId, type Digest } from '@strata/oci'
import type { ExtractRef } from '@strata/queue'
import { keys, type BlobStore, type ObjectStore } from '@strata/store'
import { fetchPlain } from './fetch-plain.js'
import type { InflateTask } from './inflate.js'
import { InflateThreads } from './thread-pool.js'

/** An index of ten million entries with long names. */
const MAX_INDEX_BYTES = 2 ** 31

/**
 * Makes layers usable on this node, each once however many ask: an uncompressed tar with its index,
 * in the layer folder.
 *
 * Where the store's objects are files, a plain layer's tar is a link to the blob's own; else its
 * bytes come from the store, hashed on their way. A packed one is inflated once, and in that pass
 * proven and indexed. An index that the store has is not made again. A layer appears by a rename,
 * so one that is there is whole.
 */
export class LayerMaker {
  /**
   * By the diffID if the blob is proven to have it. Otherwise by all that the caller says: an image
   * that claims another layer's diffID must not have that layer's launches wait for its blob.
   */
  readonly #making = new SingleFlightByKey<string, boolean>()

  constructor(
    private readonly store: ObjectStore,
    private readonly blobs: BlobStore,
    private readonly folder: LayerFolder,
    private readonly limits: PackedLimits,
    private readonly memory: IndexMemory,
    private readonly threads: InflateThreads,
  ) {}

  /**
   * What a killed process left half-made. The lock on `tmp` tells whether another extractor of this
   * node still works there.
   */
  static async open(
    store: ObjectStore,
    blobs: BlobStore,
    folder: LayerFolder,
    limits = PACKED_LIMITS,
    memory = new IndexMemory(INDEX_MEMORY),
    threads = new InflateThreads(2),
  ): Promise<LayerMaker> {
    const temporary = join(folder.path, 'tmp')
    ownFolder(folder.path)
    const lock = await open(folder.path, 'r')
    if (!flock(lock.fd, 'ex', { nonblock: true }))
      throw new StrataError(
        'driver_unavailable',
        `another extractor works in ${folder.path}: every node needs a folder of its own`,
      )
    await rm(temporary, { recursive: true, force: true })
    await mkdir(temporary, { mode: 0o700 })
    const maker = new LayerMaker(store, blobs, folder, limits, memory, threads)
    maker.#lock = lock
    return maker
  }
  #lock: { close(): Promise<void> } | undefined

  /**
   * True if this call made it. Calls while it is being made wait for that. One that is cancelled
   * leaves at once; the work goes on as long as anyone waits for it. The last one that is cancelled
   * leaves when the work has been cleaned up.
   */
  async ensure(layer: ExtractRef, signal: AbortSignal): Promise<boolean> {
    for (;;) {
      signal.throwIfAborted()
      const proven = await this.#proven(layer)
      const diffId = layer.diffId ?? proven
      if (diffId !== undefined && this.folder.has(diffId)) {
        // The layer is here, which proves nothing about a blob of other bytes that claims to be it.
        if (proven === diffId) {
          // Who browses the image has no node to ask, and asks for this job where the store's index
          // is gone.
          if (await this.store.stat(keys.index(diffId))) return false
          try {
            await this.#keepIndex(diffId, this.folder.paths(diffId).index)
            return false
          } catch (error) {
            // A collection may remove the layer between the two looks: then it is made again.
            if (this.folder.has(diffId)) throw error
            continue
          }
        }
      }
      const key = proven === diffId && diffId !== undefined ? diffId : `${layer.digest} ${diffId ?? ''} ${layer.size}`
      const isJoining = this.#making.isJoinable(key)
      try {
        const isMade = await this.#making.run(key, (abort) => this.#make({ ...layer, diffId }, abort), signal)
        if (!isJoining) return isMade
      } catch (error) {
        // The last caller to leave waits until nothing of the work is left.
        if (signal.aborted && !this.#making.isJoinable(key)) await this.#making.settled([key])
        // The other may have come with another blob, which only claimed to be this layer.
        if (!isJoining || signal.aborted) throw error
      }
    }
  }

  async #proven({ digest }: ExtractRef): Promise<DiffId | undefined> {
    return (await this.blobs.stat(digest))?.diffId
  }

  /** To be called when no work is under way. */
  async close(): Promise<void> {
    await this.threads.close()
    await this.#lock?.close()
  }

  /**
   * Nobody knows beforehand how large an index gets. So it grows in what the process has free; if
   * that does not suffice, the layer is made once more, with all that an index may take.
   */
  async #make(layer: ExtractRef, signal: AbortSignal): Promise<boolean> {
    const what = `the layer ${layer.digest}`
    const stored = layer.diffId && (await this.store.stat(keys.index(layer.diffId)))
    try {
      using memory = stored ? await this.memory.take(stackMemory(stored.size), what, signal) : this.memory.grow()
      return await this.#makeWith(memory.shared, layer, signal)
    } catch (error) {
      if (!isOverloaded(error)) throw error
    }
    const most = Math.min(this.memory.largest, buildMemory(this.limits.indexBytes))
    using memory = await this.memory.take(most, what, signal)
    try {
      return await this.#makeWith(memory.shared, layer, signal)
    } catch (error) {
      if (!isOverloaded(error)) throw error
      const limit = `the limit is ${Math.floor(most / 2 ** 20)} MiB, three quarters of STRATA_INDEX_MEMORY`
      throw new StrataError('limit_exceeded', `${what} needs more memory for its index; ${limit}`, { cause: error })
    }
  }

  async #makeWith(memory: SharedMemory, layer: ExtractRef, signal: AbortSignal): Promise<boolean> {
    const temporary = join(this.folder.path, 'tmp', randomUUID())
    await mkdir(temporary, { mode: 0o700 })
    try {
      const tar = join(temporary, 'layer.tar')
      const index = join(temporary, 'index')
      const checkpoints = join(temporary, 'checkpoints')
      const known = layer.diffId && (await this.#storedIndex(layer.diffId))
      const isKnownPlain = layer.digest === layer.diffId && known !== undefined
      if (isKnownPlain && known.tarSize !== layer.size)
        throw new StrataError(
          'corrupt',
          `the index of layer ${layer.digest} speaks of ${known.tarSize} bytes, the layer has ${layer.size}`,
        )
      const { file, proven } = await this.#source(layer)
      const task: InflateTask = {
        blob: layer.digest,
        diffId: layer.diffId,
        tar,
        index: known ? undefined : index,
        checkpoints: (await this.#wantsCheckpoints(layer)) ? checkpoints : undefined,
        limits: this.limits,
        memory,
      }
      const diffId =
        file === undefined
          ? await this.#fetch(task, isKnownPlain, signal)
          : isKnownPlain
            ? await linkPlain(file, tar, layer)
            : await this.threads.inflate(task, file, signal)
      failpoint('extract.fetched')
      if (known) await writeFile(index, known.bytes, { mode: 0o600 })
      else await this.#keepIndex(diffId, index)
      await this.#keepCheckpoints(layer.digest, checkpoints)
      failpoint('extract.index-kept')
      if (proven !== diffId) await this.blobs.prove(layer.digest, diffId)
      failpoint('extract.proven')
      if (this.folder.has(diffId)) return false
      await chmod(tar, 0o444)
      await chmod(index, 0o444)
      failpoint('extract.renaming')
      const isOthers = await rename(temporary, this.folder.folderOf(diffId)).then(
        () => false,
        (error: unknown) => {
          // Made meanwhile from another blob: of one of the two nobody knew beforehand that it is
          // the same inside.
          if (this.folder.has(diffId)) return true
          throw error
        },
      )
      if (isOthers) return false
      failpoint('extract.renamed')
      return true
    } finally {
      await rm(temporary, { recursive: true, force: true })
    }
  }

  /**
   * The file of a blob, if the store has files and the blob lies in one, and the diffID that was
   * proven before. A blob whose bytes are gone is a missing layer to
   * the reader.
   */
  async #source(layer: ExtractRef): Promise<{ file: string | undefined; proven: DiffId | undefined }> {
    const record = await this.blobs.stat(layer.digest)
    const bytes = record && (await this.blobs.storedBytes(record))
    if (!record || bytes === undefined)
      throw new StrataError('layer_missing', `the layer ${layer.digest} is not in the store`)
    if (bytes !== record.size)
      throw new StrataError(
        'corrupt',
        `the layer ${layer.digest} in the store is damaged: it has ${bytes} bytes of ${record.size}`,
      )
    return { file: this.blobs.localPath(record), proven: record.diffId }
  }

  /**
   * What only has to be hashed and written needs no thread. Bytes that came badly are asked for
   * once more: it may have been the way.
   */
  async #fetch(task: InflateTask, isKnownPlain: boolean, signal: AbortSignal): Promise<DiffId> {
    const attempt = async (): Promise<DiffId> => {
      const { body } = await this.blobs.open(task.blob)
      return isKnownPlain ? fetchPlain(task.blob, task.tar, body, signal) : this.threads.inflate(task, body, signal)
    }
    try {
      return await attempt()
    } catch (error) {
      signal.throwIfAborted()
      if (!(error instanceof StrataError && (error.code === 'corrupt' || error.code === 'store_unavailable')))
        throw error
      await rm(task.tar, { force: true })
      return attempt()
    }
  }

  /** The store's index, if it is there and sound; an unsound one is made again. */
  async #storedIndex(diffId: DiffId): Promise<{ bytes: Buffer; tarSize: number } | undefined> {
    const found = await this.store.read(keys.index(diffId), MAX_INDEX_BYTES)
    if (!found) return undefined
    try {
      return { bytes: found.bytes, tarSize: LayerIndex.decode(found.bytes).tarSize }
    } catch (error) {
      if (error instanceof StrataError && error.code === 'corrupt') return undefined
      throw error
    }
  }

  /** Of a packed layer, once. */
  async #wantsCheckpoints({ digest, diffId }: ExtractRef): Promise<boolean> {
    return digest !== diffId && (await this.store.stat(keys.checkpoints(digest))) === undefined
  }

  /** They are for who reads from the store: the node itself has the tar. */
  async #keepCheckpoints(digest: Digest, file: string): Promise<void> {
    const bytes = await readFile(file).catch(() => undefined)
    if (!bytes) return
    await this.store.create(keys.checkpoints(digest), bytes)
    await rm(file)
  }

  async #keepIndex(diffId: DiffId, file: string): Promise<void> {
    const handle = await open(file, 'r')
    try {
      await this.store.create(keys.index(diffId), await handle.readFile())
    } finally {
      await handle.close()
    }
  }
}

function isOverloaded(error: unknown): boolean {
  return error instanceof StrataError && error.code === 'overloaded'
}

async function isPacked(path: string): Promise<boolean> {
  const handle = await open(path, 'r')
  try {
    const head = Buffer.alloc(COMPRESSION_HEAD)
    const { bytesRead } = await handle.read(head, 0, head.length, 0)
    return detectCompression(head.subarray(0, bytesRead)) !== 'none'
  } finally {
    await handle.close()
  }
}

async function linkPlain(source: string, tar: string, { digest }: ExtractRef): Promise<DiffId> {
  if (await isPacked(source))
    throw new StrataError('corrupt', `the layer ${digest} in the store is damaged: it is not a plain tar`)
  // Another file system, or one without links: a copy, which shares its blocks where the file
  // system can.
  await link(source, tar).catch(() => copyFile(source, tar, constants.COPYFILE_FICLONE))
  return digest as DiffId
}
