import { existsSync } from 'node:fs'
import { mkdir, rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import { chainIdOf, hexOf, type Digest } from '@strata/oci'
import type { ImageRef } from '@strata/queue'
import { mountAll, parseSnapshotKey, unmountAll, type Snapshotter } from '@strata/snapshots'

/** Images mounted for people: a read-only view each, at `<folder>/<id>`, until it is unmounted. Which are there is read from the kernel and the disk. */
export class ImageMounts {
  constructor(
    private readonly snapshots: Snapshotter,
    private readonly folder: string,
  ) {}

  async mount(image: ImageRef): Promise<string> {
    const target = join(this.folder, hexOf(image.id))
    await unmountAll(target)
    await mkdir(target, { recursive: true })
    const mounts = await this.snapshots.view(this.#key(image.id), chainIdOf(image.layers.map(({ diffId }) => diffId)))
    // For people to look at on the host: an image's set-user-id programs and devices must do nothing there.
    mountAll(mounts.map((mount) => ({ ...mount, options: ['nosuid', 'nodev', ...mount.options] })), target)
    return target
  }

  /** False where it was not mounted. */
  async umount(id: Digest): Promise<boolean> {
    const target = join(this.folder, hexOf(id))
    if (!existsSync(target)) return false
    await unmountAll(target)
    await this.snapshots.remove(this.#key(id))
    await rmdir(target)
    return true
  }

  #key(id: Digest) {
    return parseSnapshotKey(`image-${hexOf(id)}`)
  }
}
