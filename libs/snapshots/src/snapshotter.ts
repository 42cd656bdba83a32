import type { ChainId, DiffId } from '@strata/oci'
import type { Mount } from './mounts/mounts.js'
import type { RootInfo, SnapshotInfo, SnapshotKey, Usage } from './snapshot.js'

/**
 * Storage for the file systems of images and containers on one node, copy-on-write.
 *
 * **What a snapshot is.** The layers of an image, stacked, make its *root*: read-only, kept once
 * under the stack's chain id, mounted once on the node and shared by all who need it. A *snapshot*
 * is a child of a root under a key of the caller's: writable (`prepare`), so that what a container
 * changes lies in a folder of its own, or read-only (`view`).
 *
 * **The laws**
 * 1. A root never changes. It exists complete or not at all, whatever process dies at whatever
 *    line. What a dead process left half-made is deleted when the next driver is opened on the
 *    folder.
 * 2. Every method may be called again, at the same time or after a crash, and has the same result.
 *    Work on one chain id is done once, however many callers ask, in this process and in others on
 *    the same folder.
 * 3. The users of a root are read from the kernel (its mount table) and from the snapshots on disk.
 *    They are never counted in memory. What is in use is not removed: the call is refused.
 * 4. A snapshot outlives this process, `close` and the next start. Only `remove` ends it, and then
 *    its changes are gone.
 * 5. Names and attributes of a layer's entries are data: nothing in a layer is followed, obeyed or
 *    run.
 *
 * | word | means |
 * | --- | --- |
 * | layer | an uncompressed tar and its index, both local files that never change while a root made of them is there (LayerFiles) |
 * | chain id | the identity of a stack of layers (image-spec, config.md); of no layers the digest of nothing |
 * | root | the merged, read-only tree of a stack |
 * | key | the name of a snapshot, the caller's: a container's id |
 * | mount | the parameters of mount(2) as data, so that a runtime's spec may hold them. `mountAll` carries it out |
 *
 * **Examples**
 * ```ts
 * const { snapshotter: snapshots } = await createSnapshotter({ folder })
 * // An image's root, to look at:
 * const chain = await snapshots.assemble(layers, signal)
 * const path = await snapshots.root(chain)
 * // A container:
 * mountAll(await snapshots.prepare(key, chain), bundle.rootfs)
 * // …and its end:
 * await unmountAll(bundle.rootfs)
 * await snapshots.remove(key)
 * ```
 *
 * **What is left out.** The caller mounts a snapshot: it knows the place and the namespace. There
 * is no commit (a layer made of a snapshot's changes), no label and no snapshot of a snapshot. The
 * caller decides which roots are worth keeping. The folder must lie below a private mount
 * (`makePrivateMount` of `@strata/linux`): the driver does not know what else lies there.
 *
 * **Errors** (StrataError): `not_found` for a key or chain id that is not there, `exists` for a key
 * that is taken by another snapshot, `in_use` for a snapshot or root that is mounted,
 * `layer_missing` and `corrupt` for a layer's files, `layer_invalid` for what they say,
 * `storage_full`, `driver_unavailable` for a snapshot that another driver made and this one cannot
 * mount.
 */
export interface Snapshotter {
  /** The name of the driver, one of `DRIVERS`. */
  readonly name: string

  /**
   * Makes the root of the stack, lowest layer first, and gives its chain id. Returns at once if the
   * root exists. Atomic. Slow: it works in a thread of its own. When the signal aborts, this call
   * ends with its reason; the work stops when no caller waits for it any more.
   */
  assemble(layers: readonly LayerFiles[], signal?: AbortSignal): Promise<ChainId>

  /** Whether the root exists, with everything that its mount needs. Quick. */
  isAssembled(chainId: ChainId): Promise<boolean>

  /**
   * Mounts the root read-only, nosuid and nodev, if it is not mounted yet, and gives the path.
   * Takes milliseconds.
   * @throws StrataError `not_found` before `assemble`
   */
  root(chainId: ChainId): Promise<string>

  /**
   * Makes a writable child of the root, and says how to mount it. If the key has a child of this
   * root already, says how to mount that one. Set-user-id programs and devices work in it: the
   * nosuid and nodev of the root's mount do not apply. Atomic. Takes milliseconds, but the driver
   * vfs copies the root.
   *
   * `isVolatile`: nothing that is written need outlive the machine's next stop. Then no sync inside
   * reaches the disk, and an unmount does not wait for it (overlayfs.rst, "Volatile mount").
   */
  prepare(key: SnapshotKey, chainId: ChainId, options?: { readonly isVolatile?: boolean }): Promise<Mount[]>

  /** As `prepare`, but nothing can be written. */
  view(key: SnapshotKey, chainId: ChainId): Promise<Mount[]>

  /**
   * How to mount a snapshot that exists. Mounts its root first, if it is not mounted (after a
   * reboot). Not for a volatile snapshot: that must be prepared again.
   */
  mounts(key: SnapshotKey): Promise<Mount[]>

  stat(key: SnapshotKey): Promise<SnapshotInfo>

  /**
   * What a snapshot takes on disk without its root. The time grows with its files. What lies deeper
   * than 1,024 folders is not counted.
   */
  usage(key: SnapshotKey): Promise<Usage>

  /** Every snapshot, in the order of their keys. */
  walk(): AsyncIterable<SnapshotInfo>

  /** Where a snapshot is mounted: one place, or none. Quick. */
  userOf(key: SnapshotKey): string | undefined

  /**
   * Deletes a snapshot and its changes; does nothing if it does not exist.
   * @throws StrataError `in_use` while it is mounted
   */
  remove(key: SnapshotKey): Promise<void>

  /**
   * Unmounts and deletes a root, and gives what that freed; does nothing if it does not exist. The
   * time grows with its files. `isNeeded` is called last, and no other code runs between its answer
   * and the moment when the root is gone. So a user that is known to `isNeeded` keeps the root, and
   * one that comes later finds it gone.
   * @throws StrataError `in_use` while a snapshot or a mount uses it
   */
  removeRoot(chainId: ChainId, isNeeded?: () => boolean): Promise<Usage>

  /** Every root, in the order of their chain ids. */
  roots(): AsyncIterable<RootInfo>

  /**
   * What the removal of these roots would free. What other roots need as well is left out. The time
   * grows with their files.
   */
  rootUsage(chainIds: readonly ChainId[]): Promise<Usage>

  /**
   * Unmounts the root if no mount uses it and no snapshot but `besides` is its child. It is mounted
   * again when it is needed. A launch that failed calls this, so that its root prevents nothing.
   */
  releaseRoot(chainId: ChainId, besides: SnapshotKey): Promise<void>

  /**
   * Unmounts every root that no mount uses, and gives the others. Roots are mounted again when they
   * are needed. A node that shuts down calls this.
   */
  releaseRoots(): Promise<ChainId[]>

  /**
   * Aborts the work under way and waits for its end. Unmounts nothing: containers outlive this
   * process.
   */
  close(): Promise<void>
}

/** A layer on this node. */
export interface LayerFiles {
  readonly diffId: DiffId
  /**
   * Path of the uncompressed tar. Its digest is the diffID: the caller has verified that. It is
   * never written to again.
   */
  readonly tar: string
  /** Path of its encoded LayerIndex. */
  readonly index: string
}
