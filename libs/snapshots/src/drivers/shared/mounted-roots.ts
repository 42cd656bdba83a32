import { existsSync, lstatSync, mkdirSync, rmdirSync, rmSync } from 'node:fs'
import { StrataError } from '@strata/base'
import { mountAt, mountTable, umount } from '@strata/linux'
import type { ChainId, DiffId } from '@strata/oci'
import type { Layout } from '../../bookkeeping/layout.js'
import { userOfMount } from '../../mounts/users.js'
import type { Usage } from '../../snapshot.js'
import type { LayerFiles } from '../../snapshotter.js'
import { threadFor } from '../../threads/run-worker.js'
import type { tasks } from '../../trees/tasks.js'
import type { Roots } from '../driver.js'

const inThread = threadFor<typeof tasks>('trees')

/** Roots with a mount point each (`layout.mountPoint`). The mount table shows their users. */
export abstract class MountedRoots implements Roots {
  constructor(readonly layout: Layout) {}

  abstract make(chainId: ChainId, layers: readonly LayerFiles[], signal: AbortSignal): Promise<void>
  abstract isUsable(chainId: ChainId): boolean
  abstract layersOf(chainId: ChainId): readonly DiffId[] | undefined
  /** Mounts the root read-only, nosuid and nodev, at a folder that exists. */
  abstract mount(chainId: ChainId, target: string): Promise<void>

  /** The folders that the removal of these roots would delete. */
  foldersOf(chainIds: readonly ChainId[]): string[] {
    return chainIds.map((chainId) => this.layout.root(chainId))
  }

  async usage(chainIds: readonly ChainId[]): Promise<Usage> {
    let [bytes, inodes] = [0, 0]
    for (const folder of this.foldersOf(chainIds)) {
      if (!existsSync(folder)) continue
      const usage = await inThread('usage', folder)
      bytes += usage.bytes
      inodes += usage.inodes
    }
    return { bytes, inodes }
  }

  collect(): Promise<void> {
    return Promise.resolve()
  }

  async open(chainId: ChainId): Promise<string> {
    const target = this.layout.mountPoint(chainId)
    if (mountAt(target)) return target
    if (!lstatSync(this.layout.root(chainId), { throwIfNoEntry: false })) throw noRoot(chainId)
    mkdirSync(target, { recursive: true, mode: 0o700 })
    await this.mount(chainId, target)
    return target
  }

  openAt(chainId: ChainId): string | undefined {
    const target = this.layout.mountPoint(chainId)
    return mountAt(target) && target
  }

  opened(): ChainId[] {
    return this.layout.chains('mounts')
  }

  userOf(chainId: ChainId): string | undefined {
    const table = mountTable()
    const root = mountAt(this.layout.mountPoint(chainId), table)
    return root && userOfMount(root, table)?.mountPoint
  }

  release(chainId: ChainId): string | undefined {
    const target = this.layout.mountPoint(chainId)
    const table = mountTable()
    const root = mountAt(target, table)
    if (root) {
      const user = userOfMount(root, table)
      if (user) return user.mountPoint
      try {
        umount(target)
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'EBUSY') return `${target} (a process is in it)`
        throw error
      }
    }
    deleteMountPoint(target)
    return undefined
  }
}

/** The error that a root does not exist. */
export function noRoot(chainId: ChainId): StrataError {
  return new StrataError('not_found', `there is no root of ${chainId} on this node: it has to be assembled first`)
}

/**
 * Deletes a mount point on which nothing is mounted. A folder that is not empty stays: a mount
 * would only cover what somebody put there.
 */
function deleteMountPoint(path: string): void {
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
