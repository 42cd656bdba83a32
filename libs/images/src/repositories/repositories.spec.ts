import { digestOf, MEDIA, parseTagged, type Digest } from '@strata/oci'
import { BlobStore, Collector, keys, Leases, listAll, piecesOf, TOMBSTONE_BYTES, type ObjectStore } from '@strata/store'
import { temporaryStore, withoutAbilities } from '@strata/store/testing'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Images } from '../images.js'
import { Names } from '../names.js'
import {
  artifactOf,
  imageOf,
  indexOf,
  PushingClient,
  repositoryOf,
  tagOf,
  type Part,
} from '../testing/pushing-client.js'

const app = repositoryOf('team/app')
const other = repositoryOf('team/app/other')
const free = () => Promise.resolve(false)
const CHART = 'application/vnd.cncf.helm.config.v1+json'
const SIGNATURE = 'application/vnd.dev.cosign.artifact.sig.v1+json'

describe.each(['a store with a lock of its own', 'a store with the verbs alone'])('repositories on %s', (kind) => {
  let store: ObjectStore
  let dispose: () => Promise<void>
  let images: Images
  let client: PushingClient
  let repositories: PushingClient['repositories']
  beforeEach(async () => {
    const temporary = await temporaryStore()
    dispose = temporary.dispose
    store = kind === 'a store with the verbs alone' ? withoutAbilities(temporary.store) : temporary.store
    images = new Images(store)
    await images.markNames()
    client = new PushingClient(store)
    repositories = client.repositories
  })
  afterEach(() => dispose())

  const collect = async () => {
    const { report } = await new Collector(store).collect({
      dryRun: false,
      references: (told) => images.all.references(undefined, told),
    })
    await images.tidyNames()
    return report
  }
  /** As a load does it: the blobs, and then the image with its name. */
  const load = async ({ manifest, blobs }: { manifest: Part; blobs: readonly Part[] }, ...names: string[]) => {
    const leases = new Leases(store)
    const id = `load-${Math.random().toString(36).slice(2)}`
    const run = await leases.create(id, { job: { kind: 'load', id }, request: {} })
    for (const { digest, bytes } of blobs) await new BlobStore(store).add(digest, bytes, id)
    await images.put(manifest.bytes, names.map(parseTagged), run)
    await leases.endBy(run, 'done')
    return manifest.digest
  }
  const remove = (ref: string) => images.remove({ ref, force: false, inUse: free })
  const names = async () => (await images.page(1_000)).images.map((image) => [...image.names])
  const left = async () => {
    const found: string[] = []
    for await (const { key, size } of listAll(store, ''))
      if (size !== TOMBSTONE_BYTES && !key.endsWith('/_all') && !key.startsWith('used/')) found.push(key)
    return found
  }

  it('what was pushed is an image, and what was loaded is in its repository', async () => {
    const [pushed, loaded] = [imageOf(['one']), imageOf(['two'])]
    await client.push(app, pushed, '1')
    await load(loaded, 'team/app:2', 'other:1')
    expect((await names()).sort()).toEqual([['other:1', 'team/app:2'], ['team/app:1']])
    expect(await images.inspect('team/app:1')).toMatchObject({ id: pushed.id, digest: pushed.manifest.digest })
    expect(await images.resolve(pushed.id)).toMatchObject({ digest: pushed.manifest.digest })
    expect(await images.resolve(`team/app@${loaded.manifest.digest}`)).toMatchObject({ id: loaded.id })
    for (const [{ manifest, blobs }, tag] of [
      [pushed, '1'],
      [loaded, '2'],
    ] as const) {
      const { digest, mediaType, size, bytes } = manifest
      expect(await repositories.tags.get(app, tagOf(tag))).toEqual({ digest, mediaType, size })
      expect(await repositories.manifests.get(app, digest)).toEqual({ digest, mediaType, size, bytes })
      for (const blob of blobs) expect(await repositories.blobs.has(app, blob.digest)).toBe(true)
      // Nobody else's.
      expect(await repositories.manifests.stat(other, digest)).toBeUndefined()
      for (const blob of blobs) expect(await repositories.blobs.has(other, blob.digest)).toBe(false)
    }
    expect((await repositories.page(10)).repositories).toEqual([repositoryOf('other'), app])
    await collect()
    expect((await images.inspect('team/app:1')).layerList).toHaveLength(1)
  })

  it('rmi takes tag, manifest and all else away; a registry’s delete of a tag leaves the manifest', async () => {
    const image = imageOf(['one'])
    const { digest } = image.manifest
    await client.push(app, image, '1')
    await client.push(other, image, '1')
    expect(await remove('team/app:1')).toEqual({ untagged: ['team/app:1'], deleted: [] })
    expect(await repositories.manifests.stat(app, digest)).toBeUndefined()
    expect(await repositories.manifests.stat(other, digest)).toBeDefined()
    await collect()
    expect(await repositories.blobs.has(app, image.id)).toBe(false)
    expect(await repositories.blobs.has(other, image.id)).toBe(true)
    expect((await repositories.page(10)).repositories).toEqual([other])

    expect(await repositories.tags.delete(other, tagOf('1'))).toBe(true)
    expect(await repositories.tags.delete(other, tagOf('1'))).toBe(false)
    expect(await repositories.manifests.stat(other, digest)).toBeDefined()
    expect(await names()).toEqual([[]])
    await collect()
    expect(await images.inspect(digest)).toMatchObject({ id: image.id })
    await images.removeUntagged(digest)
    await collect()
    expect(await left()).toEqual([])
  })

  it('a delete by digest takes the tags of that repository with it, however many they are', async () => {
    const [image, kept] = [imageOf(['one']), imageOf(['two'])]
    const { digest } = image.manifest
    for (let at = 0; at < 12; at++) await client.push(app, image, `v${at}`)
    await client.push(app, kept, 'kept')
    await client.push(other, image, '1')
    expect(await repositories.manifests.delete(app, digest)).toBe(true)
    expect(await repositories.manifests.delete(app, digest)).toBe(false)
    expect((await repositories.tags.page(app, 100)).tags).toEqual(['kept'])
    expect((await repositories.manifests.page(app, 100)).digests).toEqual([kept.manifest.digest])
    expect(await names()).toEqual(expect.arrayContaining([['team/app/other:1'], ['team/app:kept']]))
    await collect()
    expect((await images.inspect('team/app/other:1')).layerList).toHaveLength(1)
  })

  it('what was put by its digest stays without a tag, in no list, and can be launched by its digest', async () => {
    const image = imageOf(['one'])
    const { digest } = image.manifest
    await client.push(app, image)
    expect(await names()).toEqual([])
    expect(await images.resolve(`team/app@${digest}`)).toMatchObject({ id: image.id })
    await client.push(app, image, '1')
    expect(await remove('team/app:1')).toEqual({ untagged: ['team/app:1'], deleted: [image.id] })
    await collect()
    expect(await repositories.manifests.get(app, digest)).toMatchObject({ bytes: image.manifest.bytes })
    expect(await remove(`team/app@${digest}`)).toEqual({ untagged: [`team/app@${digest}`], deleted: [] })
    await collect()
    expect(await left()).toEqual([])
  })

  it('an artifact with a tag is no image, stays in a collection, and goes by its name', async () => {
    const chart = artifactOf('a chart', CHART)
    const { digest } = chart.manifest
    await client.push(app, chart, 'chart')
    expect((await images.page(1_000)).images).toEqual([])
    expect((await images.page(10)).images).toEqual([])
    expect(await images.all.untagged()).toEqual([])
    expect(await images.all.usage(() => false)).toEqual({ total: 0, active: 0, bytes: 0, reclaimable: 0 })
    for (const text of ['team/app:chart', `team/app@${digest}`])
      await expect(images.inspect(text)).rejects.toMatchObject({ code: 'not_an_image' })
    await expect(images.inspect(digest)).rejects.toMatchObject({ code: 'image_not_found' })
    await collect()
    expect(await repositories.manifests.get(app, digest)).toMatchObject({ bytes: chart.manifest.bytes })
    for (const { digest: blob, bytes } of chart.blobs)
      expect(await new BlobStore(store).read(blob, 1_000)).toEqual(bytes)
    expect(await remove('team/app:chart')).toEqual({ untagged: ['team/app:chart'], deleted: [] })
    await collect()
    expect(await left()).toEqual([])
  })

  it('an index has its children by digest, and is an image if one of them is', async () => {
    const [amd, arm] = [imageOf(['one'], {}, 'amd64'), imageOf(['two'], {}, 'arm64')]
    const index = indexOf([amd, arm, imageOf(['never here'], {}, 's390x')])
    for (const image of [amd, arm]) await client.push(app, image)
    await client.push(app, index, 'all')
    expect(await images.inspect('team/app:all')).toMatchObject({
      digest: index.manifest.digest,
      mediaType: MEDIA.index,
    })
    expect(await names()).toEqual([['team/app:all']])
    expect((await images.resolve('team/app:all')).whole?.parts.map(({ platform }) => platform)).toEqual([
      'linux/amd64',
      'linux/arm64',
    ])
    await collect()
    for (const { manifest } of [amd, arm, index])
      expect((await repositories.manifests.get(app, manifest.digest))?.bytes).toEqual(manifest.bytes)
    // An index of nothing that is here is no image, and is kept all the same.
    await client.push(app, indexOf([imageOf(['nowhere'])]), 'sparse')
    await expect(images.inspect('team/app:sparse')).rejects.toMatchObject({ code: 'not_an_image' })
    await collect()
    expect((await repositories.tags.page(app, 10)).tags).toEqual(['all', 'sparse'])
  })

  /** An index of two images, with its parts, as `team/app:all`. */
  const loadIndex = async () => {
    const [amd, arm] = [imageOf(['one'], {}, 'amd64'), imageOf(['two'], {}, 'arm64')]
    const index = indexOf([amd, arm])
    await client.under(async (run) => {
      const blobs = new BlobStore(store)
      for (const { digest, bytes } of [...amd.blobs, ...arm.blobs, amd.manifest, arm.manifest])
        await blobs.add(digest, bytes, run.lease)
      const parts = [amd, arm].map(({ manifest, architecture }) => ({
        digest: manifest.digest,
        platform: `linux/${architecture}`,
      }))
      const whole = { manifest: amd.manifest.digest, parts }
      await images.putWhole(index.manifest.bytes, whole, [parseTagged('team/app:all')], run)
    })
    return { amd, arm, index }
  }

  it('the parts of an index that was loaded are found by their digests, and go with it', async () => {
    const { arm } = await loadIndex()
    const { digest, mediaType, size, bytes } = arm.manifest
    expect(await repositories.manifests.get(app, digest)).toEqual({ digest, mediaType, size, bytes })
    expect(await repositories.manifests.stat(other, digest)).toBeUndefined()
    for (const blob of arm.blobs) expect(await repositories.blobs.has(app, blob.digest)).toBe(true)
    expect(await images.resolve(`team/app@${digest}`)).toMatchObject({ id: arm.id })
    await remove('team/app:all')
    expect(await repositories.manifests.stat(app, digest)).toBeUndefined()
    await collect()
    expect(await left()).toEqual([])
  })

  it('an index that was loaded, and then put by its digest, keeps its parts without a tag', async () => {
    const { amd, arm, index } = await loadIndex()
    await client.push(app, index)
    await repositories.tags.delete(app, tagOf('all'))
    await collect()
    for (const { manifest, blobs } of [amd, arm]) {
      expect(await repositories.manifests.get(app, manifest.digest)).toMatchObject({ bytes: manifest.bytes })
      for (const blob of blobs) expect(await repositories.blobs.has(app, blob.digest)).toBe(true)
    }
    await repositories.manifests.delete(app, index.manifest.digest)
    expect(await repositories.manifests.stat(app, arm.manifest.digest)).toBeUndefined()
    await collect()
    expect(await left()).toEqual([])
  })

  it('what was put by its digest is removed by it as an image is: not in use, not with several tags unforced', async () => {
    const image = imageOf(['one'])
    const { digest } = image.manifest
    await client.push(app, image)
    await client.under(async (run) => {
      for (const tag of ['1', '2']) await repositories.tags.set(app, tagOf(tag), digest, run)
    })
    const ref = `team/app@${digest}`
    await expect(remove(ref)).rejects.toMatchObject({ code: 'image_has_tags' })
    const used = () => Promise.resolve(true)
    await expect(images.remove({ ref, force: true, inUse: used })).rejects.toMatchObject({ code: 'image_in_use' })
    expect(await names()).toEqual([['team/app:1', 'team/app:2']])
    const removed = await images.remove({ ref, force: true, inUse: free })
    expect(removed.untagged).toEqual(['team/app:1', 'team/app:2', ref])
    expect(await names()).toEqual([])
  })

  it('what was put by its digest can be removed by it, also if its bytes are gone', async () => {
    const image = imageOf(['one'])
    const { digest } = image.manifest
    await client.push(app, image)
    const record = (await new BlobStore(store).stat(digest))!
    await store.delete(piecesOf(record).map(({ data }) => data))
    expect(await remove(`team/app@${digest}`)).toMatchObject({ untagged: [`team/app@${digest}`] })
    expect(await repositories.manifests.stat(app, digest)).toBeUndefined()
  })

  it('referrers are pages by type, whether or not the subject is there, and stay with or without it', async () => {
    const subject = imageOf(['one'])
    const refers = { subject: { digest: subject.manifest.digest, size: 1, mediaType: MEDIA.manifest } }
    const made = Array.from({ length: 5 }, (_, i) =>
      artifactOf(`signature ${i}`, i < 3 ? SIGNATURE : CHART, { ...refers, annotations: { number: `${i}` } }),
    )
    const large = artifactOf('large', SIGNATURE, { ...refers, annotations: { large: 'x'.repeat(100_000) } })
    for (const one of [...made, large]) await client.push(app, one)
    await client.push(other, made[0]!)
    const all = async (limit: number, artifactType?: string) => {
      const found: { digest: Digest; number: string | undefined; size: number }[] = []
      let after: Digest | undefined
      do {
        const page = await repositories.referrers.page(app, subject.manifest.digest, limit, { after, artifactType })
        expect(page.referrers.length).toBeLessThanOrEqual(limit)
        for (const { digest, annotations } of page.referrers)
          found.push({ digest, number: annotations['number'], size: (annotations['large'] ?? '').length })
        after = page.next
      } while (after !== undefined)
      return found
    }
    const wanted = [...made, large].map(({ manifest }) => manifest.digest).sort()
    for (const limit of [1, 2, 100]) {
      expect((await all(limit)).map(({ digest }) => digest)).toEqual(wanted)
      expect((await all(limit, CHART)).map(({ number }) => number).sort()).toEqual(['3', '4'])
    }
    expect((await all(100)).find(({ digest }) => digest === large.manifest.digest)?.size).toBe(100_000)
    await client.push(app, subject, '1')
    await remove('team/app:1')
    await collect()
    expect(await all(2)).toHaveLength(6)
    await repositories.manifests.delete(app, made[0]!.manifest.digest)
    expect(await all(2)).toHaveLength(5)
    for (const { manifest } of [...made.slice(1), large]) await repositories.manifests.delete(app, manifest.digest)
    await repositories.manifests.delete(other, made[0]!.manifest.digest)
    await collect()
    expect(await left()).toEqual([])
  })

  it('a blob without a manifest is had while its lease lives; one that another repository has is not', async () => {
    const image = imageOf(['one'])
    await client.push(app, image, '1')
    await client.under(async (run) => {
      const { digest, bytes, mediaType } = image.manifest
      await expect(repositories.manifests.put(other, digest, bytes, mediaType, run)).rejects.toMatchObject({
        code: 'layer_missing',
      })
      await repositories.blobs.add(other, [image.id], run.lease)
      await collect()
      expect(await repositories.blobs.has(other, image.id)).toBe(true)
    })
    await collect()
    expect(await repositories.blobs.has(other, image.id)).toBe(false)
    expect(await repositories.blobs.has(app, image.id)).toBe(true)
    expect(await repositories.blobs.delete(app, image.id)).toBe(true)
    expect(await repositories.blobs.delete(app, image.id)).toBe(false)
    expect(await repositories.blobs.has(app, image.id)).toBe(false)
  })

  it('refuses what is no manifest, or not the one that it is said to be', async () => {
    const { manifest, blobs } = imageOf(['one'])
    const refused = async (bytes: Buffer, mediaType: string, code: string, digest = digestOf(bytes)) =>
      client.under(async (run) => {
        for (const blob of blobs) await new BlobStore(store).add(blob.digest, blob.bytes, run.lease)
        await repositories.blobs.add(
          app,
          blobs.map((blob) => blob.digest),
          run.lease,
        )
        await expect(repositories.manifests.put(app, digest, bytes, mediaType, run)).rejects.toMatchObject({ code })
      })
    await refused(Buffer.from('{'), MEDIA.manifest, 'not_an_image')
    await refused(manifest.bytes, MEDIA.index, 'not_an_image')
    await refused(manifest.bytes, MEDIA.dockerManifest, 'not_an_image')
    await refused(manifest.bytes, 'text/plain', 'not_an_image')
    await refused(manifest.bytes, 'application/vnd.docker.distribution.manifest.v1+prettyjws', 'unsupported')
    await refused(manifest.bytes, MEDIA.manifest, 'digest_mismatch', digestOf('other'))
    await refused(Buffer.alloc(4 * 1024 * 1024 + 1, ' '), MEDIA.manifest, 'limit_exceeded')
    expect((await repositories.manifests.page(app, 10)).digests).toEqual([])
  })

  it('pages of tags, manifests and repositories are in order and have each once', async () => {
    const texts = ['a', 'a/b', 'a-b', 'a.b', 'b', 'localhost:5000/x']
    for (const text of texts) await client.push(repositoryOf(text), artifactOf('x', CHART), '1')
    for (const tag of ['v10', 'v2', 'A', '_x', 'v1.0']) await client.push(app, artifactOf(tag, CHART), tag)
    const pages = async <T extends string>(
      page: (after: T | undefined) => Promise<{ items: readonly T[]; next?: T }>,
    ) => {
      const found: T[] = []
      let after: T | undefined
      do {
        const { items, next } = await page(after)
        expect(items.length).toBeLessThanOrEqual(2)
        found.push(...items)
        after = next
      } while (after !== undefined)
      return found
    }
    const two = <T>(items: readonly T[], next: T | undefined) => ({ items, ...(next === undefined ? {} : { next }) })
    expect(
      await pages<string>(async (after) =>
        repositories.tags.page(app, 2, after).then((p) => two(p.tags as readonly string[], p.next)),
      ),
    ).toEqual(['A', '_x', 'v1.0', 'v10', 'v2'])
    const digests = await pages<Digest>(async (after) =>
      repositories.manifests.page(app, 2, after).then((p) => two(p.digests, p.next)),
    )
    expect(digests).toEqual([...digests].sort())
    expect(digests).toHaveLength(5)
    const found = await pages<string>(async (after) =>
      repositories.page(2, after as never).then((p) => two(p.repositories as readonly string[], p.next)),
    )
    expect(found).toEqual([
      ...['docker.io/a/b', 'docker.io/library/a', 'docker.io/library/a-b', 'docker.io/library/a.b'],
      ...['docker.io/library/b', 'docker.io/team/app', 'localhost:5000/x'],
    ])
  })

  it('a tag whose manifest’s record is gone, by a process that died, gets it again at a collection', async () => {
    const image = imageOf(['one'])
    await client.push(app, image, '1')
    const key = keys.imageDigest(app, image.manifest.digest)
    await store.delete([key])
    expect(await repositories.manifests.stat(app, image.manifest.digest)).toBeUndefined()
    await collect()
    expect(await repositories.manifests.stat(app, image.manifest.digest)).toBeDefined()
  })

  it('an image whose removal died behind its last tag is listed without a name, and goes by its id', async () => {
    const image = imageOf(['one'])
    await client.push(app, image, '1')
    const records = new Names(store)
    const tag = await records.look(keys.tag(app, tagOf('1')))
    expect(await records.retire(tag!)).toBe(true)
    await collect()
    expect(await names()).toEqual([[]])
    expect((await images.inspect(image.id)).layerList).toHaveLength(1)
    expect(await remove(image.id)).toEqual({ untagged: [], deleted: [image.id] })
    await collect()
    expect(await left()).toEqual([])
  })

  it('a store of an older version gets records and keys at a start that may die at any line', async () => {
    const image = imageOf(['one', 'two'])
    await load(image, 'team/app:1', 'team/app:2')
    // As an older version left it: tags alone.
    for await (const { key } of listAll(store, ''))
      if (/_digests\/|^repositories\/|^image-names\//.test(key)) await store.delete([key])
    expect(await images.resolve(`team/app@${image.manifest.digest}`)).toMatchObject({ id: image.id })
    let deaths = 0
    for (let calls = 0, isDone = false; !isDone; calls += 3) {
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
      isDone = await new Images(dying).markNames().then(
        () => true,
        () => false,
      )
      if (!isDone) deaths++
      expect((await new Images(store).inspect('team/app:1')).names).toEqual(['team/app:1', 'team/app:2'])
    }
    expect(deaths).toBeGreaterThan(5)
    expect(await repositories.manifests.get(app, image.manifest.digest)).toMatchObject({ bytes: image.manifest.bytes })
    for (const { digest } of image.blobs) expect(await repositories.blobs.has(app, digest)).toBe(true)
    expect((await repositories.page(10)).repositories).toEqual([app])
    for await (const { id } of new Leases(store).listLive()) await new Leases(store).end(id)
    for (const tag of ['1', '2']) await remove(`team/app:${tag}`)
    await collect()
    expect(await left()).toEqual([])
  })
})
