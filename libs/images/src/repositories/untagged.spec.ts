import { digestOf, MEDIA, type Digest } from '@strata/oci'
import { BlobStore, Collector, keys, piecesOf, type ObjectStore } from '@strata/store'
import { stopAt } from '@strata/store/testing'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
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
import { STORE_KINDS, TestRegistry } from '../testing/test-registry.js'

const [app, other] = [repositoryOf('team/app'), repositoryOf('team/other')]
const CHART = 'application/vnd.cncf.helm.config.v1+json'

/** The store, for a process that dies when it has written the record and is to tell the indexes. */
function dyingBehind(store: ObjectStore, manifest: Digest): ObjectStore {
  let isWritten = false
  return new Proxy(store, {
    get: (target, name) => {
      const member: unknown = Reflect.get(target, name, target)
      if (typeof member !== 'function') return member
      return async (...args: unknown[]): Promise<unknown> => {
        if (isWritten && name === 'list' && args[0] === keys.parentMarksOf(manifest, app)) throw new Error('dead')
        const given: unknown = await (member as (...args: unknown[]) => unknown).apply(target, args)
        isWritten ||= args[0] === keys.imageDigest(app, manifest) && String(args[1]).includes('"value"')
        return given
      }
    },
  })
}

/** The store, for a process that stands still behind its write of that key while others work. */
function thenOthers(store: ObjectStore, key: string, work: () => Promise<void>): ObjectStore {
  let isDone = false
  return new Proxy(store, {
    get: (target, name) => {
      const member: unknown = Reflect.get(target, name, target)
      if (typeof member !== 'function') return member
      return async (...args: unknown[]): Promise<unknown> => {
        const given: unknown = await (member as (...args: unknown[]) => unknown).apply(target, args)
        if (!isDone && given !== undefined && ['create', 'replace'].includes(String(name)) && args[0] === key) {
          isDone = true
          await work()
        }
        return given
      }
    },
  })
}

describe.each(STORE_KINDS)('manifests without a tag on %s', (kind) => {
  let registry: TestRegistry
  beforeEach(async () => {
    registry = await TestRegistry.open(kind)
  })
  afterEach(() => registry.dispose())
  const prune = async () => {
    for (const { digest } of await registry.images.all.untagged()) await registry.images.removeUntagged(digest)
    for (const manifest of await registry.images.all.untaggedManifests())
      await registry.images.removeUntaggedManifest(manifest)
    await registry.collect()
  }

  it('go by a prune: those of a moved tag, of a deleted one, and of a removal that died', async () => {
    const { client, repositories } = registry
    const [moved, deleted, died, stays] = ['moved', 'deleted', 'died', 'stays'].map((text) => artifactOf(text, CHART))
    await client.push(app, moved!, '1')
    await client.push(app, stays!, '1')
    await client.push(app, deleted!, '2')
    await repositories.tags.delete(app, tagOf('2'))
    await client.push(app, died!, '3')
    const names = new Names(registry.store)
    expect(await names.retire((await names.find(keys.tag(app, tagOf('3'))))!)).toBe(true)
    await registry.collect()
    for (const { manifest } of [moved!, deleted!, died!, stays!])
      expect(await repositories.manifests.stat(app, manifest.digest)).toBeDefined()
    await prune()
    for (const { manifest } of [moved!, deleted!, died!])
      expect(await repositories.manifests.stat(app, manifest.digest)).toBeUndefined()
    expect(await repositories.manifests.get(app, stays!.manifest.digest)).toBeDefined()
    await registry.remove('team/app:1')
    await prune()
    expect(await registry.left()).toEqual([])
  })

  it.each(['a child', 'an index'])(
    'stay as parts of an index that was not told of them: %s was put by a process that died before that',
    async (which) => {
      const { client, repositories, store } = registry
      const children = [imageOf(['one'], {}, 'amd64'), { ...artifactOf('chart', CHART), architecture: 'arm64' }]
      const index = indexOf(children)
      if (which === 'a child') {
        await client.push(app, index, 'all')
        for (const child of children) {
          const by = new PushingClient(dyingBehind(store, child.manifest.digest))
          await expect(by.push(app, child, 'x')).rejects.toThrow('dead')
        }
      } else {
        const { digest } = index.manifest
        // It has looked for its children when they come.
        const standing = stopAt(dyingBehind(store, digest), ['read'], keys.imageDigest(app, digest))
        const pushing = new PushingClient(standing.store).push(app, index)
        await standing.stop.reached
        for (const [i, child] of children.entries()) await client.push(app, child, String(i))
        standing.stop.goOn()
        await expect(pushing).rejects.toThrow('dead')
        for (const i of [0, 1]) await registry.remove(`team/app:${i}`)
      }
      const absent = {
        images: new Set((await registry.images.all.untagged()).map(({ digest }) => digest)),
        manifests: new Set(
          (await registry.images.all.untaggedManifests()).map((one) => keys.imageDigest(one.repository, one.digest)),
        ),
      }
      const dry = await new Collector(store).collect({
        dryRun: true,
        references: (told) => registry.images.all.references(absent, told),
      })
      expect(dry.report.blobs.count).toBe(0)
      await prune()
      for (const { manifest, blobs } of children) {
        expect(await repositories.manifests.get(app, manifest.digest)).toMatchObject({ bytes: manifest.bytes })
        for (const { digest } of blobs) expect(await new BlobStore(store).stat(digest)).toBeDefined()
      }
      expect(await registry.images.all.untagged()).toEqual([])
    },
  )

  const untold = async (index: { manifest: Part; blobs: readonly Part[] }, children: readonly (typeof index)[]) => {
    await registry.client.push(app, index, 'all')
    for (const child of children) {
      const by = new PushingClient(dyingBehind(registry.store, child.manifest.digest))
      await expect(by.push(app, child, 'x')).rejects.toThrow('dead')
    }
  }
  const dozen = Array.from({ length: 12 }, (_, i) =>
    i % 2 === 0 ? imageOf([`layer ${i}`], {}, 'amd64') : { ...artifactOf(`chart ${i}`, CHART), architecture: 'arm64' },
  )

  it.each(['a prune', 'rmi'])(
    'stay as parts of an index that one process tells of all, while %s of another takes them',
    async (way) => {
      const { store } = registry
      const index = indexOf(dozen)
      await untold(index, dozen)
      const others = async (): Promise<void> => {
        if (way === 'a prune') return prune()
        for (const child of dozen) if ('id' in child) await registry.remove(`team/app@${child.manifest.digest}`)
      }
      let areOthersDone = false
      const one = new Images(
        thenOthers(store, keys.imageDigest(app, index.manifest.digest), async () => {
          await others()
          areOthersDone = true
        }),
      )
      await one.removeUntagged(dozen[0]!.manifest.digest)
      expect(areOthersDone).toBe(true)
      await prune()
      await expectAll(dozen)
      expect(await registry.images.all.untagged()).toEqual([])
    },
  )

  it('stay, and it is said, while an index that names them cannot be told of them', async () => {
    const { client, repositories, store, images } = registry
    const [first, image, chart] = [dozen[0]!, dozen[2]!, dozen[1]!]
    const index = indexOf([first, image, chart])
    await untold(index, [image, chart])
    // So the record of the index has a part, and the collector does not read the index itself.
    await client.push(app, first)
    const key = keys.imageDigest(app, index.manifest.digest)
    const { before, found } = await new Names(store).findToWrite(key)
    const { digest } = first.manifest
    const whole = { manifest: digest, parts: [{ digest, platform: 'linux/amd64' }] }
    const lacks = [image, chart].map(({ manifest }) => manifest.digest)
    expect(await new Names(store).write(key, { ...before!, whole }, found, lacks)).toBe(true)
    const { data } = piecesOf((await new BlobStore(store).stat(index.manifest.digest))!)[0]!
    await store.delete([data])
    await store.put(data, Buffer.alloc(index.manifest.size))
    const warnings = vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined)
    try {
      await prune()
      await expectAll([image, chart])
      expect(await images.removeUntagged(image.manifest.digest)).toBe(false)
      expect(String(warnings.mock.lastCall?.[0])).toMatch(
        `${app}@${image.manifest.digest} stays: an index that names it cannot take it in: `,
      )
    } finally {
      warnings.mockRestore()
    }
    // Without the index nothing keeps them.
    expect(await repositories.manifests.delete(app, index.manifest.digest)).toBe(true)
    await prune()
    expect(await repositories.manifests.stat(app, image.manifest.digest)).toBeUndefined()
  })

  it('stay if they were put by their digests, have a subject, or a tag', async () => {
    const { client, repositories } = registry
    const subject = { digest: imageOf(['one']).manifest.digest, size: 1, mediaType: MEDIA.manifest }
    const [byDigest, signature, tagged] = [
      artifactOf('digest', CHART),
      artifactOf('signature', CHART, { subject }),
      artifactOf('tagged', CHART),
    ]
    await client.push(app, byDigest)
    await client.push(app, signature, 'sig')
    await repositories.tags.delete(app, tagOf('sig'))
    await client.push(app, tagged, '1')
    // In another repository the same one has lost its tag.
    await client.push(other, tagged, '1')
    await repositories.tags.delete(other, tagOf('1'))
    expect(await registry.images.all.untaggedManifests()).toEqual([
      { repository: other, digest: tagged.manifest.digest },
    ])
    // As a dry run takes them for removed: what the first repository has stays.
    const absent = { images: new Set<Digest>(), manifests: new Set([keys.imageDigest(other, tagged.manifest.digest)]) }
    const dry = await new Collector(registry.store).collect({
      dryRun: true,
      references: (told) => registry.images.all.references(absent, told),
    })
    expect(dry.report.blobs.count).toBe(0)
    await prune()
    for (const { manifest } of [byDigest, signature, tagged])
      expect(await repositories.manifests.get(app, manifest.digest)).toMatchObject({ bytes: manifest.bytes })
    expect(await repositories.manifests.stat(other, tagged.manifest.digest)).toBeUndefined()
  })

  const charts = ['one', 'two'].map((text) => ({ ...artifactOf(text, CHART), architecture: 'amd64' }))
  const images = [imageOf(['one'], {}, 'amd64'), imageOf(['two'], {}, 'arm64')]
  const subject = { digest: imageOf(['base']).manifest.digest, size: 1, mediaType: MEDIA.manifest }
  it.each([
    { of: 'charts, by its tag', children: charts, tag: 'all' },
    { of: 'charts, by its digest', children: charts },
    { of: 'images, by its digest', children: images },
    { of: 'images with a subject, by its tag', children: images, more: { subject }, tag: 'all' },
    { of: 'images with an artifact type, by its tag', children: images, more: { artifactType: CHART }, tag: 'all' },
  ])('stay with an index of $of', async ({ children, more, tag }) => {
    const { client, repositories } = registry
    const index = indexOf(children, more)
    for (const [i, child] of children.entries()) await client.push(app, child, String(i))
    await client.push(app, index, tag)
    for (const i of children.keys()) await repositories.tags.delete(app, tagOf(String(i)))
    await prune()
    for (const { manifest, blobs } of children) {
      expect(await repositories.manifests.get(app, manifest.digest)).toMatchObject({ bytes: manifest.bytes })
      for (const { digest, size } of blobs)
        expect(await new BlobStore(registry.store).read(digest, 1_000)).toHaveLength(size)
    }
    // Nor does a removal of a tag with what it stands for take a child away.
    for (const [i, { manifest }] of children.entries()) {
      await client.under((run) => repositories.tags.set(app, tagOf(String(i)), manifest.digest, run))
      await registry.remove(`team/app:${i}`)
    }
    await registry.collect()
    for (const { manifest } of children)
      expect(await repositories.manifests.get(app, manifest.digest)).toMatchObject({ bytes: manifest.bytes })
    expect(await repositories.manifests.delete(app, index.manifest.digest)).toBe(true)
    await prune()
    expect(await registry.left()).toEqual([])
  })

  /** What an earlier version wrote: records that name none of an index's children. */
  const forgetParts = async (...tags: string[]) => {
    const names = new Names(registry.store)
    const { digest } = (await registry.repositories.tags.get(app, tagOf(tags[0]!)))!
    for (const key of [keys.imageDigest(app, digest), ...tags.map((tag) => keys.tag(app, tagOf(tag)))]) {
      const { before, found } = await names.findToWrite(key)
      expect(await names.write(key, { ...before!, whole: undefined }, found)).toBe(true)
    }
    await registry.store.delete([keys.allIndexesFollowed])
  }
  const expectAll = async (pushed: readonly { manifest: Part; blobs: readonly Part[] }[]) => {
    for (const { manifest, blobs } of pushed) {
      expect(await registry.repositories.manifests.get(app, manifest.digest)).toMatchObject({ bytes: manifest.bytes })
      for (const { digest, bytes } of blobs)
        expect(await new BlobStore(registry.store).read(digest, 1_000)).toEqual(bytes)
    }
  }
  const waysToLoseTags = [
    {
      way: 'tags that are deleted, and a prune',
      lose: (tag: string): Promise<unknown> => registry.repositories.tags.delete(app, tagOf(tag)),
    },
    { way: 'rmi', lose: (tag: string): Promise<unknown> => registry.remove(`team/app:${tag}`) },
  ]

  it.each(waysToLoseTags)('stay with an index whose record an earlier version wrote: $way', async ({ lose }) => {
    const { client, repositories, images } = registry
    const below = { ...indexOf(charts), architecture: 'amd64' }
    const index = indexOf([below])
    for (const [i, pushed] of [...charts, below, index].entries()) await client.push(app, pushed, String(i))
    await forgetParts('2')
    await forgetParts('3')
    await images.markNames()
    for (const tag of ['2', '0', '1']) await lose(tag)
    await prune()
    await expectAll([...charts, below])
    await repositories.tags.delete(app, tagOf('3'))
    await prune()
    expect(await registry.left()).toEqual([])
  })

  it.each(
    waysToLoseTags.flatMap(
      (one) =>
        [
          { ...one, of: 'charts' },
          { ...one, of: 'images' },
        ] as const,
    ),
  )('stay with an index above their index: $of, $way', async ({ lose, of }) => {
    const { client, repositories } = registry
    const children = of === 'charts' ? charts : images
    const below = { ...indexOf(children), architecture: 'amd64' }
    const middle = { ...indexOf([below]), architecture: 'amd64' }
    const top = indexOf([middle])
    for (const [i, pushed] of [...children, below, middle, top].entries()) await client.push(app, pushed, String(i))
    // The indexes first: what they name is then found by the index above alone.
    for (const tag of ['3', '2', '0', '1']) await lose(tag)
    await registry.collect()
    await expectAll([...children, below, middle])
    await prune()
    await expectAll([...children, below, middle])
    await lose('4')
    await prune()
    expect(await registry.left()).toEqual([])
    expect(await repositories.manifests.stat(app, below.manifest.digest)).toBeUndefined()
  })

  it('stay with an index above an index that came before them', async () => {
    const { client, repositories } = registry
    const below = { ...indexOf(charts), architecture: 'amd64' }
    await client.push(app, indexOf([below]), 'top')
    await client.push(app, below, 'below')
    for (const [i, chart] of charts.entries()) await client.push(app, chart, String(i))
    for (const tag of ['below', '0', '1']) await registry.remove(`team/app:${tag}`)
    await prune()
    await expectAll([...charts, below])
    // A delete of the index below takes what only that has led to.
    expect(await repositories.manifests.delete(app, below.manifest.digest)).toBe(true)
    await registry.collect()
    for (const { manifest } of [below, ...charts])
      expect(await repositories.manifests.stat(app, manifest.digest)).toBeUndefined()
    await repositories.tags.delete(app, tagOf('top'))
    await prune()
    expect(await registry.left()).toEqual([])
  })

  it('go by one prune with the indexes without a tag that name them, and a dry run foretells that', async () => {
    const { client, repositories } = registry
    const below = { ...indexOf(images, { artifactType: CHART }), architecture: 'amd64' }
    const pushed = [...images, ...charts, below, indexOf([below, ...charts])]
    for (const [i, one] of pushed.entries()) await client.push(app, one, String(i))
    for (const i of pushed.keys()) await repositories.tags.delete(app, tagOf(String(i)))
    await registry.collect()
    const untagged = await registry.images.all.untagged()
    const others = await registry.images.all.untaggedManifests()
    const absent = {
      images: new Set(untagged.map(({ digest }) => digest)),
      manifests: new Set(others.map((one) => keys.imageDigest(one.repository, one.digest))),
    }
    const { report } = await new Collector(registry.store).collect({
      dryRun: true,
      references: (told) => registry.images.all.references(absent, told),
    })
    for (const { digest } of untagged) await registry.images.removeUntagged(digest)
    for (const manifest of others) await registry.images.removeUntaggedManifest(manifest)
    expect((await registry.collect()).blobs).toEqual(report.blobs)
    expect(await registry.left()).toEqual([])
  })

  it.each(['the bytes', 'a layer'])('stay with an index that has a child of which %s are gone', async (what) => {
    const { client, repositories, store } = registry
    const [good, bad] = charts
    for (const [i, chart] of charts.entries()) await client.push(app, chart, String(i))
    const lost = what === 'a layer' ? bad!.blobs[1]! : bad!.manifest
    await store.delete([keys.blob(lost.digest)])
    await client.push(app, indexOf(charts), 'all')
    await registry.remove('team/app:0')
    // A manifest without its bytes stops the collector: somebody removes it.
    expect(await repositories.manifests.delete(app, bad!.manifest.digest)).toBe(true)
    await registry.collect()
    await expectAll([good!])
    await client.push(app, bad!, '1')
    await registry.remove('team/app:1')
    await registry.collect()
    await expectAll(charts)
  })

  const absent = (count: number) =>
    Array.from({ length: count }, (_, i) => ({
      manifest: { ...charts[0]!.manifest, digest: digestOf(`absent ${i}`) },
      architecture: 'amd64',
    }))

  it('are at most 2,000 below one index: one that leads to more is refused', async () => {
    const { client } = registry
    await expect(client.push(app, indexOf(absent(2_001)), 'all')).rejects.toMatchObject({ code: 'limit_exceeded' })
  })

  it('stay with an index that names many others, which never came', async () => {
    const { client } = registry
    await client.push(app, indexOf([...absent(501), charts[0]!]))
    await client.push(app, charts[0]!, '0')
    await registry.remove('team/app:0')
    await registry.collect()
    await expectAll([charts[0]!])
  })
})
