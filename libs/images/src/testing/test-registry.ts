import { randomUUID } from 'node:crypto'
import { parseTagged } from '@strata/oci'
import {
  BlobStore,
  Collector,
  Leases,
  listAll,
  TOMBSTONE_BYTES,
  type Collected,
  type ObjectStore,
  type StoreCollection,
} from '@strata/store'
import { temporaryStore, withoutAbilities } from '@strata/store/testing'
import { Images } from '../images.js'
import type { Removed } from '../remove.js'
import { imageOf, indexOf, PushingClient, type Part } from './pushing-client.js'

/** The stores that laws of repositories are tried on. */
export const STORE_KINDS = ['a store with a lock of its own', 'a store with the verbs alone'] as const

/** A store of a test's own, with a client that pushes, and one that loads. */
export class TestRegistry {
  readonly images: Images
  readonly client: PushingClient
  readonly repositories: PushingClient['repositories']

  private constructor(
    readonly store: ObjectStore,
    readonly dispose: () => Promise<void>,
  ) {
    this.images = new Images(store)
    this.client = new PushingClient(store)
    this.repositories = this.client.repositories
  }

  static async open(kind: (typeof STORE_KINDS)[number]): Promise<TestRegistry> {
    const { store, dispose } = await temporaryStore()
    const registry = new TestRegistry(kind === STORE_KINDS[1] ? withoutAbilities(store) : store, dispose)
    await registry.images.markNames()
    return registry
  }

  async collect(): Promise<StoreCollection> {
    return (await this.collected()).report
  }

  async collected(): Promise<Collected> {
    const collected = await new Collector(this.store).collect({
      dryRun: false,
      references: (told) => this.images.all.references(undefined, told),
    })
    await this.images.tidyNames()
    return collected
  }

  /** As a load does it: the blobs, and then the image with its names. */
  async load({ manifest, blobs }: { manifest: Part; blobs: readonly Part[] }, ...names: string[]): Promise<void> {
    const leases = new Leases(this.store)
    const id = randomUUID()
    const run = await leases.create(id, { job: { kind: 'load', id }, request: {} })
    for (const { digest, bytes } of blobs) await new BlobStore(this.store).add(digest, bytes, id)
    await this.images.put(manifest.bytes, names.map(parseTagged), run)
    await leases.endBy(run, 'done')
  }

  /** An index of two images, with its parts and what is attached to them. */
  async loadIndex(name: string, attached: readonly { manifest: Part; blobs: readonly Part[] }[] = []) {
    const [amd, arm] = [imageOf(['one'], {}, 'amd64'), imageOf(['two'], {}, 'arm64')]
    const index = indexOf([amd, arm])
    await this.client.under(async (run) => {
      const blobs = new BlobStore(this.store)
      for (const { manifest, blobs: parts } of [amd, arm, ...attached])
        for (const { digest, bytes } of [...parts, manifest]) await blobs.add(digest, bytes, run.lease)
      const parts = [
        ...[amd, arm].map(({ manifest, architecture }) => ({
          digest: manifest.digest,
          platform: `linux/${architecture}`,
        })),
        ...attached.map(({ manifest: { digest } }) => ({ digest })),
      ]
      const whole = { manifest: amd.manifest.digest, parts }
      await this.images.putWhole(index.manifest.bytes, whole, [parseTagged(name)], run)
    })
    return { amd, arm, index }
  }

  async remove(ref: string): Promise<Removed> {
    return this.images.remove({ ref, force: false, inUse: () => Promise.resolve(false) })
  }

  /** The keys of all objects but tombstones and notes. */
  async left(): Promise<string[]> {
    const found: string[] = []
    for await (const { key, size } of listAll(this.store, ''))
      if (size !== TOMBSTONE_BYTES && !key.endsWith('/_all') && !key.startsWith('used/')) found.push(key)
    return found
  }
}
