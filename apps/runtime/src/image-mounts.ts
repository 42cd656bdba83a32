import { existsSync, realpathSync } from 'node:fs'
import { mkdir, rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import { mountAt, mountTable } from '@strata/linux'
import { asCode, SerialByKey, StrataError } from '@strata/base'
import { chainIdOf, hexOf, type Digest } from '@strata/oci'
import type { ImageRef } from '@strata/api'
import { mountAll, parseSnapshotKey, unmountAll, type Snapshotter } from '@strata/snapshots'

/**
 * Images mounted for people: one read-only view of each, at `<folder>/<id>`, until it is unmounted.
 * Which views exist is read from the kernel and the disk.
 *
 * - `mount` of an image that is mounted answers the same path and leaves the mount as it is:
 *   someone may read there.
 * - Requests for one image are carried out one after the other.
 */
export class ImageMounts {
  readonly #requests = new SerialByKey<Digest>()

  constructor(
    private readonly snapshots: Snapshotter,
    private readonly folder: string,
  ) {}

  /**
   * @throws StrataError `driver_unavailable` if the answer would be a path that is nowhere but in
   * this service's own mount namespace
   */
  async mount(image: ImageRef): Promise<string> {
    if (!isSeenByHost(this.folder))
      throw new StrataError(
        'driver_unavailable',
        'nobody would see a mount: the runtime of this node has a mount namespace of its own, since it runs in a container. Read the image with strata ls, cat or export',
      )
    return await this.#requests.run(image.id, () => this.#mount(image))
  }

  /**
   * False if it was not mounted.
   * @throws StrataError `image_in_use` while a process works in the mount
   */
  umount(id: Digest): Promise<boolean> {
    return this.#requests.run(id, () => this.#umount(id))
  }

  async #mount(image: ImageRef): Promise<string> {
    const target = this.#target(image.id)
    await mkdir(target, { recursive: true })
    if (mountAt(realpathSync(target))) return target
    const mounts = await this.snapshots.view(this.#key(image.id), chainIdOf(image.layers.map(({ diffId }) => diffId)))
    // For people to look at on the host: an image's set-user-id programs and devices must do
    // nothing there.
    mountAll(
      mounts.map((mount) => ({ ...mount, options: ['nosuid', 'nodev', ...mount.options] })),
      target,
    )
    return target
  }

  async #umount(id: Digest): Promise<boolean> {
    const target = this.#target(id)
    if (!existsSync(target)) return false
    try {
      await unmountAll(target)
      await this.snapshots.remove(this.#key(id))
    } catch (error) {
      throw asCode(error, { in_use: 'image_in_use' })
    }
    await rmdir(target)
    return true
  }

  #target(id: Digest): string {
    return join(this.folder, hexOf(id))
  }

  #key(id: Digest) {
    return parseSnapshotKey(`image-${hexOf(id)}`)
  }
}

/**
 * Whether the machine's first process has `folder`, a mount of this node's (PrivateMounts): the
 * kernel numbers mounts over all namespaces.
 */
function isSeenByHost(folder: string): boolean {
  const ours = mountAt(realpathSync(folder))
  return ours === undefined || mountTable(1).some(({ id }) => id === ours.id)
}
