import type { IndexMemory } from '@strata/layers'
import type { ChainId, DiffId } from '@strata/oci'
import type { Layout } from '../bookkeeping/layout.js'
import type { Mount } from '../mounts/mounts.js'
import type { SnapshotKind, Usage } from '../snapshot.js'
import type { LayerFiles } from '../snapshotter.js'

/**
 * A storage driver: how roots and snapshots lie on the disk of a node, and how they are mounted.
 *
 * **Who does what.** The bookkeeping (bookkeeping.ts) owns keys, records, locks, joint work on one
 * root, and the sweep after a crash. It knows no mount, and no file of a root or of a child. A
 * driver owns the rest, in two halves: its roots and their children. Both lie in folders whose
 * paths the bookkeeping chooses (layout.ts).
 *
 * | word | meaning |
 * | --- | --- |
 * | root | the read-only tree of a stack of layers, in the folder `layout.root(chainId)` |
 * | open | a root that can be read at a path now. It stays open until it is released |
 * | child | what a snapshot has of its own, in a folder of its own |
 * | form | what a child's folder contains. Drivers with one form can mount each other's children |
 * | user | a place where a root or a child is in use now, as the kernel says |
 *
 * **The laws**
 * 1. A driver keeps no state in memory that a later process needs. The disk and the kernel have it.
 * 2. Only the bookkeeping names things: a driver may be asked for any chain id and any folder, also
 *    for what another driver made or what a crash left. It then says that nothing usable is there,
 *    and it deletes such a folder like one of its own.
 * 3. A root appears by one rename, complete, or not at all. A child is made in a folder that nobody
 *    else sees yet; the bookkeeping renames it.
 * 4. In use is what the kernel says, never a count. The answer covers all processes of the machine.
 * 5. Names, links and attributes of an image are data. A driver follows none of them on the host.
 * 6. An open root and every mount of a `view` are read-only. Changes in one child show in no root
 *    and in no other child.
 *
 * **Errors** (StrataError): `layer_missing`, `corrupt` and `layer_invalid` for layers that cannot
 * be used, `limit_exceeded` for a stack that the driver cannot carry, `not_found` for a root that
 * has no usable record, `corrupt` for a root that was damaged, `storage_full`, `cancelled`. A
 * system error passes as it is.
 *
 * **A new driver** is one folder beside this file, one row in `DRIVERS` (drivers.ts), one spec that
 * calls `describeDriver`, and one row in docs/storage.md.
 *
 * ```ts
 * await driver.roots.make(chainId, layers, signal)
 * const root = await driver.roots.open(chainId)
 * await driver.children.make(folder, { kind: 'writable', root, isVolatile: false })
 * mountAll(driver.children.mounts(folder, { kind: 'writable', root, isVolatile: false }), target)
 * ```
 */
export interface Driver {
  readonly name: string
  readonly roots: Roots
  readonly children: Children
  /**
   * Deletes a folder of a root or a child that has no name any more, with all that it needs
   * elsewhere (a device, a subvolume). The folder may be half-made, or half-deleted by a process
   * that died. Also a folder of another driver.
   */
  delete(folder: string): Promise<void>
  /** Waits for work in the background. Unmounts nothing. */
  close(): Promise<void>
}

/**
 * The roots of a driver. `make`, `open` and `release` of one root never overlap: a lock is held.
 */
export interface Roots {
  /** Makes a root that is not there. Slow; ends with `cancelled` soon after the signal aborts. */
  make(chainId: ChainId, layers: readonly LayerFiles[], signal: AbortSignal): Promise<void>
  /** Whether the root is there with everything that `open` needs. Quick. */
  isUsable(chainId: ChainId): boolean
  /** Lowest first; undefined for a root that is not usable. */
  layersOf(chainId: ChainId): readonly DiffId[] | undefined
  /** What deleting these roots would free: nothing that another root needs as well. */
  usage(chainIds: readonly ChainId[]): Promise<Usage>
  /** Deletes what no root needs any more. The bookkeeping calls it after it has deleted a root. */
  collect(): Promise<void>

  /** Makes the root readable at a path, read-only, nosuid, nodev. The same path if it is open. */
  open(chainId: ChainId): Promise<string>
  /** The path of a root that is open. Quick; takes no lock. */
  openAt(chainId: ChainId): string | undefined
  /**
   * Every root that was opened and not released since, in the order of the chain ids. After a
   * reboot it is not open any more.
   */
  opened(): ChainId[]
  /** The mount point at which an open root is in use: of a child, or of any other mount of it. */
  userOf(chainId: ChainId): string | undefined
  /** Closes a root that has no user. Gives the user if it has one, and then changes nothing. */
  release(chainId: ChainId): string | undefined
}

/** What a child stands on. The root is open, and stays so while the child is made and mounted. */
export interface Child {
  readonly kind: SnapshotKind
  /** Path of the open root. */
  readonly root: string
  /** Nothing that is written need outlive the next stop of the machine. */
  readonly isVolatile: boolean
}

/** The children of a driver. */
export interface Children {
  /**
   * What `make` puts into a child's folder, by name. It is written into the snapshot's record, so a
   * form never changes what it means.
   */
  readonly form: string
  /** Makes the child in the folder, which is empty and ours alone. */
  make(folder: string, child: Child): Promise<void>
  /** How to mount the child. The same child always has the same answer. */
  mounts(folder: string, child: Child): Mount[]
  /** What the child takes on disk without its root. The time grows with its files. */
  usage(folder: string, kind: SnapshotKind): Promise<Usage>
  /** Where the child is mounted. Also right for a child of another form. */
  userOf(folder: string): string | undefined
}

/** What a driver is opened with. */
export interface DriverContext {
  /** Its folders exist. */
  readonly layout: Layout
  /** One of the driver's variants, by name. */
  readonly variant: string
  /** The process's memory for the indexes of layers. */
  readonly memory: IndexMemory
}
