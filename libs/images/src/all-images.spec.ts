import { digestOf, MEDIA, parseTagged, type Digest } from '@strata/oci'
import { BlobStore, keys, Leases, type ObjectStore } from '@strata/store'
import { counted, temporaryStore, type Calls } from '@strata/store/testing'
import { expect, it } from 'vitest'
import type { Image } from './image.js'
import { Images } from './images.js'
import { Names } from './names.js'
import { gathered } from './testing/gathered.js'
import { underLease } from './under-lease.js'

const [FEW, MANY] = [10, 1_100]
const AT_ONCE = 50
/** Of a list of the store. */
const PAGE = 1_000

const json = (value: object) => Buffer.from(JSON.stringify(value))
const CONFIG = json({ architecture: 'amd64', os: 'linux', rootfs: { type: 'layers', diff_ids: [] } })

it('what is asked of all images makes as many store calls an image with 1,100 as with 10', async () => {
  const { store: plain, dispose } = await temporaryStore()
  const { store, calls } = counted(plain)
  try {
    const images = new Images(store)
    await images.markNames()
    const fill = new Fill(plain)
    const cost = async (work: () => Promise<unknown>): Promise<Calls> => {
      calls()
      await work()
      return calls()
    }
    const costs = async () => ({
      count: await cost(() => images.all.count()),
      untagged: await cost(() => images.all.untagged()),
      usage: await cost(() => images.all.usage(() => false)),
      stacks: await cost(() => gathered(images.all.stacks())),
      references: await cost(() => gathered(images.all.references())),
      tidy: await cost(() => images.tidyNames()),
    })
    const prune = async () => {
      const digest = await fill.untagged()
      expect((await images.all.untagged()).map((image) => image.digest)).toEqual([digest])
      return cost(() => images.removeUntagged(digest))
    }
    await fill.upTo(FEW)
    await images.tidyNames()
    const [before, pruneBefore] = [await costs(), await prune()]
    await fill.upTo(MANY)
    await images.tidyNames()
    const [after, pruneAfter] = [await costs(), await prune()]

    expect(await images.all.count()).toBe(MANY)
    expect(pruneAfter).toEqual(pruneBefore)
    for (const what of Object.keys(before) as (keyof typeof before)[]) {
      const [few, many] = [before[what], after[what]]
      const { list: lists = 0, listed = 0, ...others } = many
      for (const call of ['listed', ...Object.keys(others)])
        expect([what, call, many[call]! / MANY]).toEqual([what, call, (few[call] ?? 0) / FEW])
      // As few pages as hold them.
      expect(lists, what).toBeLessThanOrEqual(few['list']! + Math.ceil(listed / PAGE))
    }
    // A tag, and the manifest's own record: two names an image, each read once or not at all.
    expect(after.untagged['read']).toBe(2 * MANY)
    expect(after.count['read']).toBeUndefined()
  } finally {
    await dispose()
  }
}, 300_000)

/** Images without layers, each with one tag in a repository of its own. */
class Fill {
  readonly #names: Names
  readonly #blobs: BlobStore
  #count = 0

  constructor(private readonly store: ObjectStore) {
    this.#names = new Names(store)
    this.#blobs = new BlobStore(store)
  }

  async upTo(count: number): Promise<void> {
    await this.#under(async (lease) => {
      while (this.#count < count)
        await Promise.all(
          Array.from({ length: Math.min(AT_ONCE, count - this.#count) }, async () => {
            const { repository, tag } = parseTagged(`many/${this.#count}:1`)
            const image = await this.#image(this.#count++, lease)
            await this.#names.write(keys.imageDigest(repository, image.digest), image, undefined)
            await this.#names.write(keys.tag(repository, tag!), image, undefined)
          }),
        )
    })
  }

  /** One more, without a tag. */
  async untagged(): Promise<Digest> {
    return this.#under(async (lease) => {
      const image = await this.#image(-1, lease)
      const key = keys.imageDigest(parseTagged('none').repository, image.digest)
      await this.#names.write(key, image, (await this.#names.findToWrite(key)).found)
      return image.digest
    })
  }

  async #image(number: number, lease: string): Promise<Image> {
    const config = { mediaType: MEDIA.config, digest: digestOf(CONFIG), size: CONFIG.length }
    const annotations = { number: String(number) }
    const manifest = json({ schemaVersion: 2, mediaType: MEDIA.manifest, config, layers: [], annotations })
    await this.#blobs.add(digestOf(manifest), manifest, lease)
    const [id, digest] = [digestOf(`config ${number}`), digestOf(manifest)]
    return { id, digest, mediaType: MEDIA.manifest, manifestSize: manifest.length, size: 0, layers: 0 }
  }

  async #under<T>(work: (lease: string) => Promise<T>): Promise<T> {
    return underLease(new Leases(this.store), async ({ lease }) => {
      await this.#blobs.add(digestOf(CONFIG), CONFIG, lease)
      return work(lease)
    })
  }
}
