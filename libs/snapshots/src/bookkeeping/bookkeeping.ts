import { mkdirSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { asStrataError, failpoint, SingleFlightByKey, StrataError } from '@strata/base'
import { chainIdOf, hexOf, isDigest, type ChainId } from '@strata/oci'
import type { Driver } from '../drivers/driver.js'
import type { Mount } from '../mounts/mounts.js'
import { parseSnapshotKey, type RootInfo, type SnapshotInfo, type SnapshotKey, type Usage } from '../snapshot.js'
import type { LayerFiles, Snapshotter } from '../snapshotter.js'
import { threadFor } from '../threads/run-worker.js'
import type { tasks } from '../trees/tasks.js'
import { withLocks } from './file-lock.js'
import type { SnapshotFolder } from './layout.js'
import { isObject, readRecord } from './record.js'
import { deleteAtOnce, withWorkFolders } from './work-folders.js'

const inThread = threadFor<typeof tasks>('trees')

/** snapshot.json */
interface SnapshotRecord extends Omit<SnapshotInfo, 'key'> {
  /**
   * The form of the child beside it (`Children.form`). Records of older versions have none: theirs
   * is the first form.
   */
  readonly form?: string
}
const FIRST_FORM = 'overlay'

/**
 * Keys, records, locks, joint work and the sweep after a crash, over a driver. The driver knows
 * which files a root or a child has, how they are mounted, and where they are in use (driver.ts).
 */
export class Bookkeeping implements Snapshotter {
  readonly #assembling = new SingleFlightByKey<ChainId, undefined>()
  readonly #delete = (folder: string): Promise<void> => this.driver.delete(folder)

  private constructor(
    readonly folder: SnapshotFolder,
    readonly driver: Driver,
  ) {}

  /**
   * `first`: no other live process has the folder open. Then everything that dead processes left is
   * deleted. What cannot be deleted stays for the next start, and `warn` gets a sentence: it does
   * not disturb any work.
   */
  static async open(
    folder: SnapshotFolder,
    first: boolean,
    driver: Driver,
    warn: (message: string) => void = () => undefined,
  ): Promise<Bookkeeping> {
    const bookkeeping = new Bookkeeping(folder, driver)
    if (first) await bookkeeping.#sweep(warn)
    await folder.share()
    return bookkeeping
  }

  get name(): string {
    return this.driver.name
  }

  async #sweep(warn: (message: string) => void): Promise<void> {
    const attempt = async (what: string, work: () => unknown): Promise<void> => {
      try {
        await work()
      } catch (error) {
        warn(`cleaning up ${what} (the next start of the service tries again): ${asStrataError(error).message}`)
      }
    }
    for (const path of this.folder.unfinished()) await attempt(path, () => this.driver.delete(path))
    this.folder.deleteLocks()
    // Another driver may have opened these roots, or their files may have been deleted while they
    // were in use. No caller has a path of one yet, and a caller that needs one opens it again.
    for (const chainId of this.driver.roots.opened())
      await attempt(`the root ${chainId}`, () => this.driver.roots.release(chainId))
    await attempt('what no root needs', () => this.driver.roots.collect())
  }

  async assemble(layers: readonly LayerFiles[], signal?: AbortSignal): Promise<ChainId> {
    const chainId = chainIdOf(layers.map(({ diffId }) => diffId))
    if (this.driver.roots.isUsable(chainId)) return chainId
    const make = async (abort: AbortSignal): Promise<undefined> => {
      if (this.driver.roots.isUsable(chainId)) return
      // The root that is there cannot be opened (again): a tar is gone, or the root is from before
      // a loss of power. If it is mounted, that mount stays when its folder is deleted.
      await deleteAtOnce(this.folder, this.folder.root(chainId), this.#delete)
      await this.driver.roots.make(chainId, layers, abort)
      failpoint('assemble.committed')
    }
    await this.#assembling.run(chainId, (abort) => withLocks([this.#lock(chainId)], () => make(abort), abort), signal)
    return chainId
  }

  isAssembled(chainId: ChainId): Promise<boolean> {
    return Promise.resolve(this.driver.roots.isUsable(chainId))
  }

  async root(chainId: ChainId): Promise<string> {
    return this.driver.roots.openAt(chainId) ?? this.#withRoot(chainId, (path) => path)
  }

  /**
   * Runs `work` with the root open and its lock held, so that nobody removes the root meanwhile.
   */
  #withRoot<T>(chainId: ChainId, work: (path: string) => T | Promise<T>): Promise<T> {
    return withLocks([this.#lock(chainId)], async () => work(await this.driver.roots.open(chainId)))
  }

  prepare(key: SnapshotKey, chainId: ChainId, { isVolatile = false } = {}): Promise<Mount[]> {
    return this.#make({ key, kind: 'writable', chainId }, isVolatile)
  }

  view(key: SnapshotKey, chainId: ChainId): Promise<Mount[]> {
    return this.#make({ key, kind: 'view', chainId }, false)
  }

  #make(info: SnapshotInfo, isVolatile: boolean): Promise<Mount[]> {
    parseSnapshotKey(info.key)
    return this.#withRoot(info.chainId, async (root) => {
      const existing = this.#find(info.key)
      if (existing && (existing.kind !== info.kind || existing.chainId !== info.chainId)) {
        throw new StrataError(
          'exists',
          `the key ${info.key} is that of another snapshot (${existing.kind}, of ${existing.chainId})`,
        )
      }
      if (!existing) await this.#create(info, root, isVolatile)
      return this.#mountsOf(existing ?? { ...info, form: this.driver.children.form }, root, isVolatile)
    })
  }

  async #create({ key, kind, chainId }: SnapshotInfo, root: string, isVolatile: boolean): Promise<void> {
    const { children } = this.driver
    await withWorkFolders(this.folder, this.#delete, async (fresh) => {
      const work = fresh()
      mkdirSync(work, { mode: 0o700 })
      await children.make(work, { kind, root, isVolatile })
      const record = { kind, chainId, form: children.form } satisfies SnapshotRecord
      writeFileSync(join(work, 'snapshot.json'), JSON.stringify(record))
      try {
        renameSync(work, this.folder.snapshot(key))
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException
        if (code !== 'ENOTEMPTY' && code !== 'EEXIST') throw error
        throw new StrataError('exists', `the key ${key} has just been taken for another snapshot`, {
          cause: error,
        })
      }
    })
  }

  #mountsOf({ key, kind, form }: Found, root: string, isVolatile: boolean): Mount[] {
    const { name, children } = this.driver
    if (form !== children.form)
      throw new StrataError(
        'driver_unavailable',
        `the snapshot ${key} was made by another storage driver (${form}), which ${name} cannot mount: ` +
          'start the node with that driver, or remove the container',
      )
    return children.mounts(this.folder.snapshot(key), { kind, root, isVolatile })
  }

  async mounts(key: SnapshotKey): Promise<Mount[]> {
    const found = this.#get(key)
    return this.#mountsOf(found, await this.root(found.chainId), false)
  }

  async stat(key: SnapshotKey): Promise<SnapshotInfo> {
    return Promise.resolve(infoOf(this.#get(key)))
  }

  #get(key: SnapshotKey): Found {
    parseSnapshotKey(key)
    const found = this.#find(key)
    if (!found) throw new StrataError('not_found', `there is no snapshot ${key} on this node`)
    return found
  }

  #find(key: SnapshotKey): Found | undefined {
    const record = readRecord(this.folder.snapshotRecord(key), isSnapshotRecord)
    return record && { form: FIRST_FORM, ...record, key }
  }

  async usage(key: SnapshotKey): Promise<Usage> {
    const { kind, form } = this.#get(key)
    const { children } = this.driver
    const folder = this.folder.snapshot(key)
    return form === children.form ? children.usage(folder, kind) : inThread('usage', folder)
  }

  async *walk(): AsyncIterable<SnapshotInfo> {
    for (const key of this.folder.keys()) {
      const found = this.#find(key)
      if (found) yield await Promise.resolve(infoOf(found))
    }
  }

  userOf(key: SnapshotKey): string | undefined {
    return this.driver.children.userOf(this.folder.snapshot(parseSnapshotKey(key)))
  }

  async remove(key: SnapshotKey): Promise<void> {
    const folder = this.folder.snapshot(parseSnapshotKey(key))
    const user = this.userOf(key)
    if (user !== undefined) throw new StrataError('in_use', `the snapshot ${key} is mounted at ${user}`)
    await deleteAtOnce(this.folder, folder, this.#delete)
  }

  removeRoot(chainId: ChainId, isNeeded = () => false): Promise<Usage> {
    return withLocks([this.#lock(chainId)], async () => {
      const child = this.#childOf(chainId)
      if (child !== undefined) throw new StrataError('in_use', `the root ${chainId} has a snapshot, ${child}`)
      const user = this.driver.roots.release(chainId)
      if (user !== undefined) throw new StrataError('in_use', `the root ${chainId} is in use at ${user}`)
      const freed = await this.rootUsage([chainId])
      if (isNeeded()) return { bytes: 0, inodes: 0 }
      await deleteAtOnce(this.folder, this.folder.root(chainId), this.#delete)
      await this.driver.roots.collect()
      return freed
    })
  }

  async *roots(): AsyncIterable<RootInfo> {
    const { roots } = this.driver
    for (const chainId of this.folder.chains('roots')) {
      const root = { chainId, layers: roots.layersOf(chainId) ?? [], usedAt: roots.userOf(chainId) }
      yield await Promise.resolve(root)
    }
  }

  rootUsage(chainIds: readonly ChainId[]): Promise<Usage> {
    return this.driver.roots.usage(chainIds)
  }

  releaseRoot(chainId: ChainId, besides: SnapshotKey): Promise<void> {
    return withLocks([this.#lock(chainId)], () => {
      // A snapshot that was just prepared is not mounted yet, and needs the root at its path.
      if (this.#childOf(chainId, besides) === undefined) this.driver.roots.release(chainId)
      return Promise.resolve()
    })
  }

  async releaseRoots(): Promise<ChainId[]> {
    const staying: ChainId[] = []
    for (const chainId of this.driver.roots.opened()) {
      await withLocks([this.#lock(chainId)], () => {
        if (this.driver.roots.release(chainId) !== undefined) staying.push(chainId)
        return Promise.resolve()
      })
    }
    return staying
  }

  #childOf(chainId: ChainId, besides?: SnapshotKey): SnapshotKey | undefined {
    return this.folder.keys().find((key) => key !== besides && this.#find(key)?.chainId === chainId)
  }

  async close(): Promise<void> {
    await this.#assembling.close()
    await this.driver.close()
    this.folder.close()
  }

  #lock(chainId: ChainId): string {
    return this.folder.lock(`root-${hexOf(chainId)}`)
  }
}

type Found = SnapshotInfo & { readonly form: string }

function infoOf({ key, kind, chainId }: Found): SnapshotInfo {
  return { key, kind, chainId }
}

function isSnapshotRecord(value: unknown): value is SnapshotRecord {
  return (
    isObject(value) &&
    isDigest(value['chainId']) &&
    (value['kind'] === 'writable' || value['kind'] === 'view') &&
    (value['form'] === undefined || typeof value['form'] === 'string')
  )
}
