import { digestOf, MEDIA, parseTagged, type Digest } from '@strata/oci'
import { BlobStore, keys, Leases, type ObjectStore } from '@strata/store'
import { counted, temporaryStore } from '@strata/store/testing'
import { expect, it } from 'vitest'
import type { Image } from './image.js'
import { Images } from './images.js'
import { Names } from './names.js'

const MANY = 2_000
const AT_ONCE = 50

const json = (value: object) => Buffer.from(JSON.stringify(value))

/** An image without layers. */
async function load(store: ObjectStore, author: string, ...names: string[]): Promise<Image> {
  const [upload, leases] = [`load-${author}`, new Leases(store)]
  const run = await leases.create(upload, { job: { kind: 'load', id: upload }, request: {} })
  const config = json({ architecture: 'amd64', os: 'linux', rootfs: { type: 'layers', diff_ids: [] }, author })
  await new BlobStore(store).add(digestOf(config), config, upload)
  const descriptor = { mediaType: MEDIA.config, digest: digestOf(config), size: config.length }
  const manifest = json({ schemaVersion: 2, mediaType: MEDIA.manifest, config: descriptor, layers: [] })
  const image = await new Images(store).put(manifest, names.map(parseTagged), run)
  await leases.endBy(run, 'done')
  return image
}

async function addNames(store: ObjectStore, imageOf: (number: number) => Image): Promise<void> {
  const names = new Names(store)
  const { repository } = parseTagged('many')
  for (let at = 0; at < MANY; at += AT_ONCE)
    await Promise.all(
      Array.from({ length: AT_ONCE }, (_, i) =>
        names.write(keys.tag(repository, parseTagged(`many:${at + i}`).tag!), imageOf(at + i), undefined),
      ),
    )
}

it('what concerns one image makes the same store calls with 6 names and with 2,000 more, of others or its own', async () => {
  const { store: folder, dispose } = await temporaryStore()
  const { store, calls } = counted(folder)
  try {
    const images = new Images(store)
    await images.markNames()
    const image = await load(store, 'me', ...[1, 2, 3, 4, 5, 6].map((tag) => `me:${tag}`))
    const free = () => Promise.resolve(false)
    const remove = (ref: string) => images.remove({ ref, force: false, inUse: free })
    const cost = async (work: () => Promise<unknown>) => {
      calls()
      await work()
      return calls()
    }
    const costs = async () => ({
      byName: await cost(() => images.resolve('me:1')),
      byDigest: await cost(() => images.resolve(image.digest)),
      byId: await cost(() => images.resolve(image.id)),
      byPrefix: await cost(() => images.resolve(image.id.slice(7, 27))),
      launch: await cost(() => images.details('me:1')),
      launchById: await cost(() => images.details(image.id)),
      layers: await cost(() => images.layers('me:1')),
      contents: await cost(() => images.contents('me:1')),
      // On a slow machine its lease sends heartbeats: only what it lists is compared.
      tag: await cost(() => images.tag('me:1', 'me:7')).then(({ list, listed }) => ({ list, listed })),
      remove: await cost(() => remove('me:7')),
    })
    const inspect = () => cost(() => images.inspect('me:1'))
    const page = () => cost(() => images.page(1))
    // The first look-up asks once whether all names have their marks.
    await images.resolve(image.digest)
    const few = { ...(await costs()), inspect: await inspect() }
    expect(few.launch['list']).toBeUndefined()

    const made = (number: number): Image => ({
      ...image,
      id: digestOf(`config ${number}`),
      digest: digestOf(`manifest ${number}`),
    })
    await addNames(store, made)
    expect({ ...(await costs()), inspect: await inspect() }).toEqual(few)
    expect((await page())['listed']).toBeLessThan(10)

    await addNames(store, () => image)
    expect({ ...(await costs()), inspect: few.inspect }).toEqual(few)
  } finally {
    await dispose()
  }
}, 300_000)

it('pages hold every image once, with all its names, and no page more than it was asked for', async () => {
  const { store, dispose } = await temporaryStore()
  try {
    const images = new Images(store)
    const [a, b, c] = [await load(store, 'a', 'a:1', 'a:2'), await load(store, 'b'), await load(store, 'c', 'c:1')]
    const all = async (limit: number) => {
      const pages: (readonly [Digest, readonly string[]])[][] = []
      let after: Digest | undefined
      do {
        const page = await images.page(limit, after)
        pages.push(page.images.map(({ digest, names }) => [digest, names] as const))
        after = page.next
      } while (after !== undefined)
      return pages
    }
    const wanted = [
      [a.digest, ['a:1', 'a:2']],
      [b.digest, []],
      [c.digest, ['c:1']],
    ].sort()
    const check = async () => {
      for (const limit of [1, 2, 3, 100]) {
        const pages = await all(limit)
        expect(pages.every((page) => page.length <= limit)).toBe(true)
        expect(pages.flat().sort()).toEqual(wanted)
      }
      expect(await images.all.count()).toBe(wanted.length)
    }
    // As on a store of an older version, which has no marks; then with them.
    await check()
    await images.markNames()
    await check()
  } finally {
    await dispose()
  }
})

it('names of an older version get their marks at a start that may die at any line; what dead processes left goes', async () => {
  const { store, dispose } = await temporaryStore()
  try {
    const image = await load(store, 'old', 'old:1')
    const key = keys.tag(parseTagged('old').repository, parseTagged('old:1').tag!)
    const { etag } = (await store.stat(key))!
    // As d5153a4 wrote it: a name without a mark.
    expect(await store.replace(key, json({ rev: 'old', value: image }), etag)).toBeDefined()
    await new Images(store).tidyNames()
    const { etag: again } = (await store.stat(key))!
    expect(await store.replace(key, json({ rev: 'older', value: image }), again)).toBeDefined()
    let left = 1
    for (let calls = 0; left > 0; calls++) {
      left = 0
      let count = 0
      const dying = new Proxy(store, {
        get: (target, name) => {
          const member: unknown = Reflect.get(target, name, target)
          if (typeof member !== 'function') return member
          return (...args: unknown[]) => {
            if (count++ < calls) return (member as (...args: unknown[]) => unknown).apply(target, args)
            throw new Error('dead')
          }
        },
      })
      await new Images(dying).markNames().catch(() => left++)
      expect((await new Images(store).inspect(image.id)).names).toEqual(['old:1'])
    }
    expect((await store.list('image-names/digests/')).objects.length).toBeGreaterThan(0)
    const images = new Images(store)
    for (const ref of [image.id, image.digest, image.id.slice(7, 17)])
      expect((await images.inspect(ref)).names).toEqual(['old:1'])
    // A process that died before it wrote the name.
    const repository = parseTagged('never').repository
    await store.create(
      keys.nameMark(image.digest, { repository, tag: parseTagged('never:1').tag!, digest: undefined }, 'x'),
      json({}),
    )
    await store.create(keys.idMark(image.id, image.digest, 'x'), json({}))
    await store.create(keys.idMark(image.id, image.digest, 'y'), json({}))
    await images.tidyNames()
    expect((await images.inspect(image.id)).names).toEqual(['old:1'])
    // Of the tag, and of the manifest's own record.
    expect((await store.list('image-names/digests/')).objects).toHaveLength(2)
    expect((await store.list('image-names/ids/')).objects).toHaveLength(2)
    await images.remove({ ref: image.id, force: false, inUse: () => Promise.resolve(false) })
    expect((await store.list('image-names/')).objects.map((object) => object.key)).toEqual([keys.allNamesMarked])
  } finally {
    await dispose()
  }
})
