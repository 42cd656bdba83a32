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
 * 1. A root never changes. It is there whole or not at all, whatever process dies at whatever line;
 *    what a dead process left half-made is removed when the next driver is made on the folder.
 * 2. Every method may be called again, at the same time or after a crash, and ends the same. Work
 *    on one chain id is done once however many ask, in this process and in others on the same
 *    folder.
 * 3. Who uses a root is asked of the kernel (its mount table) and of the snapshots on disk, never
 *    counted in memory. What is in use is not removed: refused.
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
 * | mount | what mount(2) is to be told; data, so that a runtime's spec may hold it. `mountAll` carries it out |
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
 * **What is left out.** Mounting a snapshot is the caller's: it knows the place and the namespace.
 * There is no commit (a layer made of a snapshot's changes), no label and no snapshot of a
 * snapshot. Which roots are worth keeping is the caller's to say. The folder must lie below a
 * private mount (`makePrivateMount` of `@strata/linux`): whose else lies there, the driver does not
 * know.
 *
 * **Errors** (StrataError): `not_found` for a key or chain id that is not there, `container_exists`
 * for a key in use for something else, `container_running` for a snapshot that is mounted,
 * `image_in_use` for a root that is, `layer_missing` and `corrupt` for a layer's files,
 * `layer_invalid` for what they say, `storage_full`, `cancelled`, `driver_unavailable` for a
 * snapshot that another driver made and this one cannot mount.
 */
export interface Snapshotter {
  /** The driver's: a name in `DRIVERS`. */
  readonly name: string

  /**
   * Makes the root of the stack, lowest layer first, and gives its chain id. At once if it is
   * there. Atomic. Slow: in a thread of its own. When the signal aborts, this call ends with
   * `cancelled`; the work ends with the last caller that waits for it.
   */
  assemble(layers: readonly LayerFiles[], signal?: AbortSignal): Promise<ChainId>

  /** Whether the root is there with everything that mounting it needs. Quick. */
  isAssembled(chainId: ChainId): Promise<boolean>

  /**
   * Mounts the root read-only, nosuid and nodev if it is not mounted yet, and gives the path.
   * `not_found` before `assemble`. Milliseconds.
   */
  root(chainId: ChainId): Promise<string>

  /**
   * A writable child of the root, and how to mount it; the same again for a key that is there with
   * this root. Set-user-id programs and devices work in it: the flags are those of its own mount.
   * Atomic; milliseconds.
   *
   * `isVolatile`: of what is written nothing need outlive the machine's next stop. Then no sync
   * inside reaches the disk, and an unmount does not wait for it (overlayfs.rst, "Volatile mount").
   */
  prepare(key: SnapshotKey, chainId: ChainId, options?: { readonly isVolatile?: boolean }): Promise<Mount[]>

  /** As `prepare`, but nothing can be written. */
  view(key: SnapshotKey, chainId: ChainId): Promise<Mount[]>

  /**
   * How to mount a snapshot that is there (again, after a reboot: the root is mounted first), if it
   * was not volatile: such a one has to be prepared again.
   */
  mounts(key: SnapshotKey): Promise<Mount[]>

  stat(key: SnapshotKey): Promise<SnapshotInfo>

  /**
   * What a snapshot itself takes on disk, without its root. As slow as it has files. What lies
   * deeper than 1,024 folders is not counted.
   */
  usage(key: SnapshotKey): Promise<Usage>

  /** Every snapshot, in the order of their keys. */
  walk(): AsyncIterable<SnapshotInfo>

  /**
   * Ends a snapshot with all it holds; nothing if it is not there. Refused (`container_running`)
   * while it is mounted.
   */
  remove(key: SnapshotKey): Promise<void>

  /**
   * Unmounts and deletes a root, and gives what that freed; nothing if it is not there. Refused
   * (`image_in_use`) while a snapshot or a mount is on it. As slow as it has files. `isNeeded` is
   * asked last, and nothing happens in between: who is known there to need the root finds it, and
   * who comes later finds it gone.
   */
  removeRoot(chainId: ChainId, isNeeded?: () => boolean): Promise<Usage>

  /** Every root, in the order of their chain ids. */
  roots(): AsyncIterable<RootInfo>

  /**
   * What removing these roots would free: what other roots need as well is left out. As slow as
   * they have files.
   */
  rootUsage(chainIds: readonly ChainId[]): Promise<Usage>

  /**
   * Unmounts the root if no mount uses it and no snapshot but `besides` is its child; it is mounted
   * again when needed. For a launch that failed: its root must not stand in anybody's way.
   */
  releaseRoot(chainId: ChainId, besides: SnapshotKey): Promise<void>

  /**
   * Unmounts every root that no mount uses; it is mounted again when needed. Gives those that stay.
   * For a node that is being shut down.
   */
  releaseRoots(): Promise<ChainId[]>

  /** Ends our own work and waits for its end. Unmounts nothing: containers outlive us. */
  close(): Promise<void>
}

/** A layer on this node. */
export interface LayerFiles {
  readonly diffId: DiffId
  /**
   * Path of the uncompressed tar, whose digest is the diffID: the caller has proven it. Never
   * written to again.
   */
  readonly tar: string
  /** Path of its encoded LayerIndex. */
  readonly index: string
}
