import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  renameSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { failpoint, StrataError } from '@strata/base'
import { chainIdOf, hexOf, isDigest, type ChainId } from '@strata/oci'
import { lgetxattr, llistxattr, lsetxattr, lutimes, mountAt, mountTable, umount, type MountEntry } from '@strata/linux'
import { deleteTree, discard, withWorkFolders } from './discard.js'
import { withLocks } from './file-lock.js'
import type { SnapshotFolder } from './folder.js'
import { lowerFolders, type Mount } from './mounts.js'
import { OVERLAY_OPTIONS } from './overlay-options.js'
import { isObject, readRecord } from './record.js'
import type { RootDriver } from './root-driver.js'
import { runWorker } from './run-worker.js'
import { SingleFlight } from './single-flight.js'
import { parseSnapshotKey, type RootInfo, type SnapshotInfo, type SnapshotKey, type Usage } from './snapshot.js'
import type { LayerFiles, Snapshotter } from './snapshotter.js'

/** snapshot.json */
type SnapshotRecord = Omit<SnapshotInfo, 'key'>

/** Keys, locks, writable children and use, over a driver that makes and mounts roots. */
export class LayeredSnapshotter implements Snapshotter {
  readonly #assembling = new SingleFlight<undefined>()

  private constructor(
    readonly folder: SnapshotFolder,
    readonly driver: RootDriver,
  ) {}

  /** Removes first what dead processes left, if no living one works on the folder. */
  static async open(folder: SnapshotFolder, first: boolean, driver: RootDriver): Promise<LayeredSnapshotter> {
    const snapshotter = new LayeredSnapshotter(folder, driver)
    try {
      if (first) await snapshotter.#clean()
      await folder.share()
      return snapshotter
    } catch (error) {
      folder.close()
      throw error
    }
  }

  get name(): 'erofs' | 'overlay' {
    return this.driver.name
  }

  async #clean(): Promise<void> {
    for (const path of this.folder.leftovers()) await deleteTree(path)
    this.folder.dropLocks()
    const roots = new Set(this.folder.chains('roots'))
    for (const chainId of this.folder.chains('mounts')) {
      // A root that went while something still used its mount: it goes when that is over.
      if (!roots.has(chainId)) this.#unmountIdle(chainId)
    }
    await this.driver.collect()
  }

  async assemble(layers: readonly LayerFiles[], signal?: AbortSignal): Promise<ChainId> {
    const chainId = chainIdOf(layers.map(({ diffId }) => diffId))
    if (this.driver.isAssembled(chainId)) return chainId
    await this.#assembling.run(chainId, signal, (abort) =>
      withLocks(
        [this.#lock(chainId)],
        async () => {
          if (this.driver.isAssembled(chainId)) return undefined
          // What is there cannot be mounted (again): a tar has gone, or it is from before a loss of
          // power. A mount of it goes on without its name.
          await discard(this.folder, this.folder.root(chainId))
          await this.driver.assemble(chainId, layers, abort)
          failpoint('assemble.committed')
          return undefined
        },
        abort,
      ),
    )
    return chainId
  }

  isAssembled(chainId: ChainId): Promise<boolean> {
    return Promise.resolve(this.driver.isAssembled(chainId))
  }

  async root(chainId: ChainId): Promise<string> {
    const target = this.folder.mountPoint(chainId)
    if (mountAt(target)) return target
    return this.#withRoot(chainId, (path) => path)
  }

  /** With the root mounted and its lock held: it cannot be removed meanwhile. */
  #withRoot<T>(chainId: ChainId, work: (path: string) => T | Promise<T>): Promise<T> {
    return withLocks([this.#lock(chainId)], async () => {
      const target = this.folder.mountPoint(chainId)
      if (!mountAt(target)) {
        if (!lstatSync(this.folder.root(chainId), { throwIfNoEntry: false }))
          throw new StrataError(
            'not_found',
            `there is no root of ${chainId} on this node: it has to be assembled first`,
          )
        mkdirSync(target, { recursive: true, mode: 0o700 })
        await this.driver.mount(chainId, target)
      }
      return work(target)
    })
  }

  async prepare(key: SnapshotKey, chainId: ChainId, { isVolatile = false } = {}): Promise<Mount[]> {
    const mounts = await this.#make({ key, kind: 'writable', chainId })
    if (!isVolatile) return mounts
    // The kernel leaves a mark here, and refuses to mount again what has one: it cannot know that
    // its machine has not stopped meanwhile.
    rmSync(join(this.folder.snapshot(key), 'work', 'work', 'incompat', 'volatile'), { recursive: true, force: true })
    return mounts.map((mount) => ({ ...mount, options: [...mount.options, 'volatile'] }))
  }

  view(key: SnapshotKey, chainId: ChainId): Promise<Mount[]> {
    return this.#make({ key, kind: 'view', chainId })
  }

  #make(info: SnapshotInfo): Promise<Mount[]> {
    parseSnapshotKey(info.key)
    return this.#withRoot(info.chainId, async (root) => {
      const existing = this.#find(info.key)
      if (existing && (existing.kind !== info.kind || existing.chainId !== info.chainId)) {
        throw new StrataError(
          'container_exists',
          `the key ${info.key} is that of another snapshot (${existing.kind}, of ${existing.chainId})`,
        )
      }
      if (!existing) await withWorkFolders(this.folder, (fresh) => this.#create(info, root, fresh()))
      return this.#mountsOf(info, root)
    })
  }

  #create({ key, kind, chainId }: SnapshotInfo, root: string, work: string): void {
    mkdirSync(work, { mode: 0o700 })
    const top = join(work, kind === 'view' ? 'lower' : 'upper')
    mkdirSync(top, { mode: 0o755 })
    if (kind === 'writable') mkdirSync(join(work, 'work'), { mode: 0o700 })
    // The merged root folder shows the topmost folder's attributes, so they have to be the image's.
    copyAttributes(root, top)
    writeFileSync(join(work, 'snapshot.json'), JSON.stringify({ kind, chainId } satisfies SnapshotRecord))
    try {
      renameSync(work, this.folder.snapshot(key))
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code !== 'ENOTEMPTY' && code !== 'EEXIST') throw error
      throw new StrataError('container_exists', `the key ${key} has just been taken for another snapshot`, {
        cause: error,
      })
    }
  }

  #mountsOf({ key, kind }: SnapshotInfo, root: string): Mount[] {
    const snapshot = this.folder.snapshot(key)
    const own =
      kind === 'view'
        ? ['ro', `lowerdir+=${join(snapshot, 'lower')}`, `lowerdir+=${root}`]
        : [`lowerdir+=${root}`, `upperdir=${join(snapshot, 'upper')}`, `workdir=${join(snapshot, 'work')}`]
    return [{ type: 'overlay', source: 'overlay', options: [...own, ...OVERLAY_OPTIONS] }]
  }

  async mounts(key: SnapshotKey): Promise<Mount[]> {
    const info = await this.stat(key)
    return this.#mountsOf(info, await this.root(info.chainId))
  }

  stat(key: SnapshotKey): Promise<SnapshotInfo> {
    parseSnapshotKey(key)
    const info = this.#find(key)
    return info
      ? Promise.resolve(info)
      : Promise.reject(new StrataError('not_found', `there is no snapshot ${key} on this node`))
  }

  #find(key: SnapshotKey): SnapshotInfo | undefined {
    const record = readRecord(join(this.folder.snapshot(key), 'snapshot.json'), isSnapshotRecord)
    return record && { key, ...record }
  }

  async usage(key: SnapshotKey): Promise<Usage> {
    const { kind } = await this.stat(key)
    return runWorker({ task: 'usage', folder: join(this.folder.snapshot(key), kind === 'view' ? 'lower' : 'upper') })
  }

  async *walk(): AsyncIterable<SnapshotInfo> {
    for (const key of this.folder.keys()) {
      const info = this.#find(key)
      if (info) yield await Promise.resolve(info)
    }
  }

  async remove(key: SnapshotKey): Promise<void> {
    parseSnapshotKey(key)
    const snapshot = this.folder.snapshot(key)
    const own = new Set([`upperdir=${join(snapshot, 'upper')}`])
    const lower = join(snapshot, 'lower')
    const user = mountTable().find(
      (entry) => entry.superOptions.some((option) => own.has(option)) || lowerFolders(entry).includes(lower),
    )
    if (user) throw new StrataError('container_running', `the snapshot ${key} is mounted at ${user.mountPoint}`)
    await discard(this.folder, snapshot)
  }

  removeRoot(chainId: ChainId, isNeeded = () => false): Promise<Usage> {
    return withLocks([this.#lock(chainId)], async () => {
      const child = this.folder.keys().find((key) => this.#find(key)?.chainId === chainId)
      if (child !== undefined) throw new StrataError('image_in_use', `the root ${chainId} has a snapshot, ${child}`)
      const user = this.#unmountIdle(chainId)
      if (user !== undefined) throw new StrataError('image_in_use', `the root ${chainId} is in use at ${user}`)
      const freed = await this.rootUsage([chainId])
      if (isNeeded()) return { bytes: 0, inodes: 0 }
      await discard(this.folder, this.folder.root(chainId))
      await this.driver.collect()
      return freed
    })
  }

  async *roots(): AsyncIterable<RootInfo> {
    for (const chainId of this.folder.chains('roots')) {
      const table = mountTable()
      const root = mountAt(this.folder.mountPoint(chainId), table)
      yield await Promise.resolve({
        chainId,
        layers: this.driver.layersOf(chainId) ?? [],
        usedAt: root && userOf(root, table)?.mountPoint,
      })
    }
  }

  async rootUsage(chainIds: readonly ChainId[]): Promise<Usage> {
    let [bytes, inodes] = [0, 0]
    for (const folder of this.driver.foldersOf(chainIds)) {
      if (!existsSync(folder)) continue
      const usage = await runWorker({ task: 'usage', folder })
      bytes += usage.bytes
      inodes += usage.inodes
    }
    return { bytes, inodes }
  }

  releaseRoot(chainId: ChainId, besides: SnapshotKey): Promise<void> {
    return withLocks([this.#lock(chainId)], () => {
      // A snapshot that was prepared just now is not mounted yet, and needs the root where it is.
      const child = this.folder.keys().find((key) => key !== besides && this.#find(key)?.chainId === chainId)
      if (child === undefined) this.#unmountIdle(chainId)
      return Promise.resolve()
    })
  }

  async releaseRoots(): Promise<ChainId[]> {
    const staying: ChainId[] = []
    for (const chainId of this.folder.chains('mounts')) {
      await withLocks([this.#lock(chainId)], () => {
        if (this.#unmountIdle(chainId) !== undefined) staying.push(chainId)
        return Promise.resolve()
      })
    }
    return staying
  }

  /**
   * Unmounts the root if the kernel knows of no use, and takes its mount point away; else gives a
   * place where it is used.
   */
  #unmountIdle(chainId: ChainId): string | undefined {
    const target = this.folder.mountPoint(chainId)
    const table = mountTable()
    const root = mountAt(target, table)
    if (root) {
      const user = userOf(root, table)
      if (user) return user.mountPoint
      try {
        umount(target)
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'EBUSY') return `${target} (a process is in it)`
        throw error
      }
    }
    dropMountPoint(target)
    return undefined
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

/** A mount point that is not mounted on. What somebody put into it stays: a mount covers it. */
function dropMountPoint(path: string): void {
  const entry = lstatSync(path, { throwIfNoEntry: false })
  if (!entry) return
  if (!entry.isDirectory()) {
    rmSync(path)
    return
  }
  try {
    rmdirSync(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOTEMPTY') throw error
  }
}

/**
 * A mount that stands on the root's: an overlay that has it as a lower folder, or one more mount of
 * the same file system.
 */
function userOf(root: MountEntry, table: readonly MountEntry[]): MountEntry | undefined {
  return table.find(
    (entry) => entry.id !== root.id && (entry.dev === root.dev || lowerFolders(entry).includes(root.mountPoint)),
  )
}

function copyAttributes(from: string, to: string): void {
  const stats = lstatSync(from, { bigint: true })
  chownSync(to, Number(stats.uid), Number(stats.gid))
  chmodSync(to, Number(stats.mode) & 0o7777)
  for (const name of llistxattr(from)) {
    const value = lgetxattr(from, name)
    if (value) lsetxattr(to, name, value)
  }
  const second = 1_000_000_000n
  const nanos = ((stats.mtimeNs % second) + second) % second
  lutimes(to, Number((stats.mtimeNs - nanos) / second), Number(nanos))
}

function isSnapshotRecord(value: unknown): value is SnapshotRecord {
  return isObject(value) && isDigest(value['chainId']) && (value['kind'] === 'writable' || value['kind'] === 'view')
}
