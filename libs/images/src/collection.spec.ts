import { StrataError } from '@strata/base'
import { digestOf, MEDIA, parseTagged, type Digest, type DiffId } from '@strata/oci'
import { BlobStore, Collector, keys, listAll, TOMBSTONE_BYTES, Leases, type ObjectStore } from '@strata/store'
import { temporaryStore, withoutAbilities } from '@strata/store/testing'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Images } from './images.js'

const ROUNDS = 40
const CLIENTS = 6

/** As an uploading client does it, from the upload's record to its end. */
class Client {
  readonly #blobs: BlobStore
  readonly #leases: Leases
  readonly images: Images
  #count = 0

  constructor(
    private readonly store: ObjectStore,
    private readonly name: string,
  ) {
    this.#blobs = new BlobStore(store)
    this.#leases = new Leases(store)
    this.images = new Images(store)
  }

  /**
   * An image of layers that are named by numbers: equal numbers are equal layers. `fails`: the
   * upload ends before its names are set.
   */
  async load(layers: readonly number[], tag: string, fails = false): Promise<Digest> {
    const upload = `${this.name}-${this.#count++}`
    const run = await this.#leases.create(upload, { job: { kind: 'load', id: upload }, request: {} })
    try {
      const packed = layers.map((layer) => Buffer.alloc(2_000, layer))
      const diffIds = packed.map((bytes) => digestOf(bytes) as DiffId)
      const config = Buffer.from(
        JSON.stringify({
          architecture: 'amd64',
          os: 'linux',
          rootfs: { type: 'layers', diff_ids: diffIds },
          config: {},
        }),
      )
      for (const bytes of [config, ...packed]) await this.#blobs.add(digestOf(bytes), bytes, upload)
      for (const diffId of diffIds) {
        await this.#blobs.prove(diffId, diffId)
        await this.store.create(keys.index(diffId), Buffer.from(diffId))
      }
      const descriptor = (bytes: Buffer, mediaType: string) => ({
        mediaType,
        digest: digestOf(bytes),
        size: bytes.length,
      })
      const manifest = Buffer.from(
        JSON.stringify({
          schemaVersion: 2,
          mediaType: MEDIA.manifest,
          config: descriptor(config, MEDIA.config),
          layers: packed.map((bytes) => descriptor(bytes, MEDIA.layer)),
        }),
      )
      if (!fails) await this.images.put(manifest, [parseTagged(tag)], run)
      return digestOf(manifest)
    } finally {
      await this.#leases.end(upload)
      await this.#blobs.deleteUnused(upload)
    }
  }
}

/** Every image is complete: its manifest, config and layers can be read and are what they say. */
async function expectComplete(store: ObjectStore): Promise<void> {
  const images = new Images(store)
  const blobs = new BlobStore(store)
  for (const { digest } of (await images.page(1_000)).images) {
    const { layerList } = await images.inspect(digest)
    for (const layer of layerList) expect((await blobs.read(layer.digest, 10_000)).length).toBe(layer.size)
  }
}

/** What is in the store, tombstones apart, by the first part of its key. */
async function counts(store: ObjectStore): Promise<Record<string, number>> {
  const found: Record<string, number> = {}
  for await (const { key, size } of listAll(store, '')) {
    const kind = key.split('/', 1)[0] ?? ''
    if (size !== TOMBSTONE_BYTES) found[kind] = (found[kind] ?? 0) + 1
  }
  return found
}

describe.each(['a store with a lock of its own', 'a store with the verbs alone'])(
  'images and the collector on %s',
  (kind) => {
    let store: ObjectStore
    let dispose: () => Promise<void>
    beforeEach(async () => {
      const temporary = await temporaryStore()
      dispose = temporary.dispose
      store = kind === 'a store with the verbs alone' ? withoutAbilities(temporary.store) : temporary.store
      await new Images(store).markNames()
    })
    afterEach(() => dispose())
    const collect = async () => {
      const collected = await new Collector(store).collect({
        dryRun: false,
        references: (told) => new Images(store).all.references(undefined, told),
      })
      await new Images(store).tidyNames()
      return collected
    }

    it('an image goes with its last name, what it shares stays, and all goes in the end', async () => {
      const client = new Client(store, 'c')
      await client.load([1, 2], 'a:1')
      await client.load([1, 3], 'b:1')
      await client.images.remove({ ref: 'a:1', force: false, inUse: () => Promise.resolve(false) })
      expect((await collect()).report.blobs.count).toBe(3)
      await expectComplete(store)
      expect(await counts(store)).toEqual({ blobs: 4, data: 4, images: 2, 'image-names': 4, index: 2, repositories: 4 })
      await client.images.remove({ ref: 'b:1', force: false, inUse: () => Promise.resolve(false) })
      expect((await collect()).report.blobs.count).toBe(4)
      expect(await counts(store)).toEqual({})
    })

    it('an image that lost its tag to another is untagged, and goes alone', async () => {
      const client = new Client(store, 'c')
      const first = await client.load([1], 'a:1')
      const second = await client.load([2], 'a:1')
      expect((await client.images.all.untagged()).map(({ digest }) => digest)).toEqual([first])
      // Given a tag in the meantime, it is not lost.
      await client.images.tag(first, 'kept:1')
      await client.images.removeUntagged(first)
      await collect()
      expect((await client.images.page(1_000)).images.map(({ digest }) => digest).sort()).toEqual(
        [first, second].sort(),
      )
      await expectComplete(store)
      await client.images.remove({ ref: 'kept:1', force: false, inUse: () => Promise.resolve(false) })
      await collect()
      expect((await client.images.page(1_000)).images.map(({ digest }) => digest)).toEqual([second])
      await expectComplete(store)
    })

    it('uploads, removals and collections at random: nothing that has a name is ever gone, and nothing else stays', async () => {
      const tags = ['x:1', 'x:2', 'y:1']
      const pick = <T>(items: readonly T[]): T => items[Math.floor(Math.random() * items.length)]!
      const expected = (error: unknown) => {
        // Others remove what is tagged, and take names, at the same time.
        if (!(
          error instanceof StrataError &&
          ['image_not_found', 'image_has_tags', 'layer_missing', 'image_ambiguous'].includes(error.code)
        ))
          throw error
      }
      const clients = Array.from({ length: CLIENTS }, async (_, i) => {
        const client = new Client(store, `c${i}`)
        for (let round = 0; round < ROUNDS; round++) {
          const layers = [pick([1, 2, 3]), pick([4, 5, 6])]
          const choice = Math.random()
          if (choice < 0.5) await client.load(layers, pick(tags), choice < 0.1)
          else if (choice < 0.7)
            await client.images
              .remove({ ref: pick(tags), force: true, inUse: () => Promise.resolve(false) })
              .catch(expected)
          else if (choice < 0.8) await client.images.tag(pick(tags), pick(tags)).catch(expected)
          else if (choice < 0.9)
            for (const { digest } of await client.images.all.untagged()) await client.images.removeUntagged(digest)
          else await collect()
        }
      })
      const working = new AbortController()
      const collecting = (async () => {
        while (!working.signal.aborted) await collect()
      })()
      await Promise.all(clients).finally(() => working.abort())
      await collecting
      await expectComplete(store)
      const images = new Images(store)
      for (const { digest } of (await images.page(1_000)).images)
        await images.remove({ ref: digest, force: true, inUse: () => Promise.resolve(false) })
      await collect()
      expect(await counts(store)).toEqual({})
    }, 120_000)
  },
)
