import { chainIds, digestOf, MEDIA, parseDiffId, parseTagged, type Digest } from '@strata/oci'
import {
  BlobStore,
  keys,
  Leases,
  piecesOf,
  PREFIX,
  TOMBSTONE_BYTES,
  type LeaseRun,
  type ObjectStore,
  type Unreadable,
} from '@strata/store'
import { temporaryStore, withoutAbilities } from '@strata/store/testing'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Images } from './images.js'

const free = () => Promise.resolve(false)
const digestText = (text: string) => digestOf(Buffer.from(text))

describe.each([
  'a store with a lock of its own',
  'a store with the verbs alone',
  'a store of an older version, whose names are not marked yet',
])('Images on %s', (kind) => {
  let store: ObjectStore
  let dispose: () => Promise<void>
  let images: Images
  let blobs: BlobStore
  let run: LeaseRun
  beforeEach(async () => {
    const temporary = await temporaryStore()
    dispose = temporary.dispose
    store = kind === 'a store with the verbs alone' ? withoutAbilities(temporary.store) : temporary.store
    images = new Images(store)
    if (!kind.includes('not marked')) await images.markNames()
    blobs = new BlobStore(store)
    run = await new Leases(store).create('u', { job: { kind: 'load', id: 'u' }, request: {} })
  })
  afterEach(() => dispose())

  /** Blobs of an image whose layers are the texts given, and its manifest's bytes. */
  const make = async (layers: string[], options: { created?: string; packing?: string; config?: object } = {}) => {
    const history = [
      ...layers.map((layer) => ({ created_by: `ADD ${layer}` })),
      { created_by: 'CMD ["sh"]', empty_layer: true },
    ]
    const config = Buffer.from(
      JSON.stringify({
        architecture: 'amd64',
        os: 'linux',
        created: options.created,
        rootfs: { type: 'layers', diff_ids: layers.map(digestText) },
        history,
        config: { Cmd: ['sh'] },
        ...options.config,
      }),
    )
    const packed = layers.map((layer) => Buffer.from(layer + (options.packing ?? '')))
    for (const bytes of [config, ...packed]) await blobs.add(digestOf(bytes), bytes, 'u')
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
    return { manifest, digest: digestOf(manifest), id: digestOf(config) }
  }
  const load = async (layers: string[], names: string[], options: Parameters<typeof make>[1] = {}) => {
    const made = await make(layers, options)
    await images.put(made.manifest, names.map(parseTagged), run)
    return made
  }
  const rows = async () => (await images.page(1_000)).images.map(({ id, names }) => ({ id, names }))
  const remove = (ref: string, force = false, inUse: (image: { id: Digest }) => Promise<boolean> = free) =>
    images.remove({ ref, force, inUse })
  const recordsLeft = async () => {
    const { objects } = await store.list(PREFIX.images)
    const bodies = await Promise.all(objects.map(async ({ key }) => (await store.read(key, 10_000))!.bytes.toString()))
    return bodies.filter((body) => body.includes('"value"')).length
  }

  it('lists an image once, with all of its names in short form', async () => {
    const { id, digest, manifest } = await load(
      ['base', 'top'],
      ['fx/odd:3', 'busybox', 'localhost/x:1', 'docker.io/fx/odd:3'],
      { created: '2024-01-01T00:00:00Z' },
    )
    expect((await images.page(1_000)).images).toEqual([
      {
        id,
        digest,
        mediaType: MEDIA.manifest,
        manifestSize: manifest.length,
        size: 7,
        layers: 2,
        created: '2024-01-01T00:00:00Z',
        names: ['busybox:latest', 'fx/odd:3', 'localhost/x:1'],
      },
    ])
  })

  it('ends the same when put twice, and side by side', async () => {
    const made = await make(['base'])
    await Promise.all(
      Array.from({ length: 5 }, () => images.put(made.manifest, [parseTagged('a:1'), parseTagged('a:2')], run)),
    )
    await images.put(made.manifest, [parseTagged('a:1')], run)
    expect(await rows()).toEqual([{ id: made.id, names: ['a:1', 'a:2'] }])
    // The two tags, and the manifest of the repository.
    expect(await recordsLeft()).toBe(3)
  })

  it('lists named images first, then the newest', async () => {
    const [old, none, recent] = [
      await load(['a'], ['a'], { created: '2020-01-01' }),
      await load(['b'], [], { created: '2025-01-01' }),
      await load(['c'], ['c'], { created: '2024-01-01' }),
    ]
    expect((await rows()).map(({ id }) => id)).toEqual([recent.id, old.id, none.id])
  })

  it('keeps an image without a name', async () => {
    const { id, digest } = await load(['base'], [])
    expect(await rows()).toEqual([{ id, names: [] }])
    expect((await images.resolve(id)).digest).toBe(digest)
    expect(await remove(id.slice(7, 19))).toEqual({ untagged: [], deleted: [id] })
    expect(await rows()).toEqual([])
  })

  it('finds an image by every name it goes by', async () => {
    const { id, digest } = await load(['base'], ['fx/odd:3', 'library/busybox'])
    const other = await load(['other'], ['other:1'])
    for (const text of [
      id,
      id.slice(7),
      digest,
      digest.slice(7),
      'fx/odd:3',
      'docker.io/fx/odd:3',
      'index.docker.io/fx/odd:3',
      'busybox',
      'docker.io/library/busybox:latest',
      `fx/odd@${digest}`,
      `fx/odd:3@${digest}`,
      id.slice(7, 27),
      `sha256:${id.slice(7, 27)}`,
    ])
      expect((await images.resolve(text)).digest, text).toBe(digest)
    for (const text of ['fx/odd', 'fx/odd:4', 'odd:3', `other@${digest}`, digestOf('none'), 'f'.repeat(63)])
      await expect(images.resolve(text), text).rejects.toMatchObject({ code: 'image_not_found' })
    for (const text of ['UPPER', 'a b', '../x', '', 'a:b:c', 'x@sha256:abc'])
      await expect(images.resolve(text), text).rejects.toMatchObject({ code: 'name_invalid' })
    expect((await images.resolve(other.id)).digest).toBe(other.digest)
  })

  it("takes an id's beginning of any length while one id has it", async () => {
    const ids = new Map<string, number>()
    for (let i = 0; i < 17; i++) {
      const { id } = await load([`layer ${i}`], [`n:${i}`])
      ids.set(id[7]!, (ids.get(id[7]!) ?? 0) + 1)
    }
    for (const [first, count] of ids) {
      const found = images.resolve(first)
      if (count === 1) expect((await found).id[7]).toBe(first)
      else await expect(found).rejects.toMatchObject({ code: 'image_ambiguous' })
    }
  })

  it('prefers a name to an id that begins alike', async () => {
    const target = await load(['base'], [])
    const named = await load(['named'], [target.id.slice(7, 10)])
    expect((await images.resolve(target.id.slice(7, 10))).id).toBe(named.id)
    expect((await images.resolve(target.id.slice(7, 30))).id).toBe(target.id)
  })

  it('tells all of an image', async () => {
    const { id } = await load(['base', 'top'], ['fx/odd:3'], { packing: ' gz' })
    const details = await images.inspect('fx/odd:3')
    const diffIds = ['base', 'top'].map((text) => parseDiffId(digestText(text)))
    expect(details).toMatchObject({
      id,
      names: ['fx/odd:3'],
      config: { architecture: 'amd64', config: { Cmd: ['sh'] } },
    })
    expect(details.layerList).toEqual(
      ['base', 'top'].map((text, i) => ({
        digest: digestText(`${text} gz`),
        size: text.length + 3,
        mediaType: MEDIA.layer,
        diffId: diffIds[i],
        chainId: chainIds(diffIds)[i],
      })),
    )
    expect(details.history.map(({ createdBy, diffId }) => [createdBy, diffId])).toEqual([
      ['ADD base', diffIds[0]],
      ['ADD top', diffIds[1]],
      ['CMD ["sh"]', undefined],
    ])
  })

  it.each([
    ['more history than layers', { history: [{ created_by: 'a' }, { created_by: 'b' }] }, [true, false]],
    ['no history', { history: null }, []],
    [
      'empty steps in between',
      { history: [{ empty_layer: true }, { created_by: 'a' }, { empty_layer: true }] },
      [false, true, false],
    ],
  ])('takes a config with %s', async (_, config, made) => {
    const { id } = await load(['base'], [], { config })
    expect((await images.inspect(id)).history.map(({ diffId }) => diffId !== undefined)).toEqual(made)
  })

  it('refuses an image that is none, or lacks something, and names nothing', async () => {
    const { manifest } = await make(['base'])
    const parsed = JSON.parse(manifest.toString()) as { layers: { digest: string }[]; config: { digest: string } }
    const put = (change: object) =>
      images.put(Buffer.from(JSON.stringify({ ...parsed, ...change })), [parseTagged('a')], run)
    const absent = { digest: digestOf('never came'), size: 1 }
    await expect(put({ layers: [absent] })).rejects.toMatchObject({ code: 'layer_missing' })
    await expect(put({ config: absent })).rejects.toMatchObject({ code: 'layer_missing' })
    await expect(put({ layers: [] })).rejects.toMatchObject({ code: 'not_an_image' })
    await expect(put({ manifests: [] })).rejects.toMatchObject({ code: 'not_an_image' })
    await expect(put({ mediaType: MEDIA.index })).rejects.toMatchObject({ code: 'not_an_image' })
    await expect(put({ config: parsed.layers[0] })).rejects.toMatchObject({ code: 'not_an_image' })
    await expect(images.put(Buffer.from('{'), [], run)).rejects.toMatchObject({ code: 'not_an_image' })
    await expect(images.put(manifest, [parseTagged('a')], { lease: 'nobody', id: 'x' })).rejects.toMatchObject({
      code: 'upload_interrupted',
    })
    expect(await rows()).toEqual([])
  })

  describe('of a writer that was stopped for long, while its upload was finished by another', () => {
    /**
     * The store as the writer sees it: all of `meanwhile` happens just before it writes the name,
     * and after it has announced that.
     */
    const stoppedBefore = (key: string, meanwhile: () => Promise<void>): Images => {
      let once: Promise<void> | undefined
      const pause = async (written: string, bytes: unknown): Promise<void> => {
        if (written === key && (bytes as Buffer).length !== TOMBSTONE_BYTES) await (once ??= meanwhile())
      }
      return new Images(
        new Proxy(store, {
          get: (target, verb) => {
            const method = Reflect.get(target, verb) as unknown
            if (typeof method !== 'function') return method
            if (verb !== 'create' && verb !== 'replace') return method.bind(target) as unknown
            return async (written: string, ...rest: unknown[]) => {
              await pause(written, rest[0])
              return method.call(target, written, ...rest) as unknown
            }
          },
        }),
      )
    }
    /** As another run of the same job does it. */
    const putAgain = async (manifest: Buffer, names: ReturnType<typeof parseTagged>[]): Promise<void> => {
      const leases = new Leases(store)
      const { run } = await leases.begin('u')
      await images.put(manifest, names, run)
      await leases.named(run, {})
      expect(await leases.endBy(run, 'done')).toBe(true)
    }
    const keyOf = (name: string) => keys.tag(parseTagged(name).repository, parseTagged(name).tag!)

    it('no name that was removed since comes back', async () => {
      const { manifest } = await make(['base'])
      const names = ['a:1', 'a:2'].map(parseTagged)
      const old = stoppedBefore(keyOf('a:2'), async () => {
        await putAgain(manifest, names)
        for (const name of ['a:1', 'a:2']) await remove(name)
      })
      await expect(old.put(manifest, names, run)).rejects.toMatchObject({
        code: expect.stringMatching('upload_interrupted|layer_missing') as string,
      })
      expect(await rows()).toEqual([])
    })

    it('a name that was given to another image since stays with that', async () => {
      const [first, second] = [await make(['one']), await load(['two'], ['b:1'])]
      const names = ['a:1', 'a:2'].map(parseTagged)
      const old = stoppedBefore(keyOf('a:1'), async () => {
        await putAgain(first.manifest, names)
        for (const name of ['a:1', 'a:2']) await images.tag('b:1', name)
      })
      await expect(old.put(first.manifest, names, run)).rejects.toMatchObject({ code: 'upload_interrupted' })
      expect(await rows()).toContainEqual({ id: second.id, names: ['a:1', 'a:2', 'b:1'] })
    })

    it('a name that is given by one who is slow is given: it says that it lives', async () => {
      const { id } = await load(['one'], ['a:1'])
      const leases = new Leases(store)
      const records = async () => {
        const etags: string[] = []
        for await (const { id, etag } of leases.listLive()) if (id !== 'u') etags.push(etag)
        return etags
      }
      const slow = stoppedBefore(keyOf('b:1'), async () => {
        const first = await records()
        expect(first).toHaveLength(1)
        await expect.poll(records).not.toEqual(first)
      })
      await slow.tag('a:1', 'b:1')
      expect(await rows()).toEqual([{ id, names: ['a:1', 'b:1'] }])
    })

    describe('and was to give a name', () => {
      const takenForDead = (meanwhile: () => unknown = () => undefined) =>
        stoppedBefore(keyOf('b:1'), async () => {
          const leases = new Leases(store)
          for await (const { id, job, etag } of leases.listLive())
            if (job.kind === 'tag') expect(await leases.endUnchanged(id, etag)).toBe(true)
          await meanwhile()
        })

      it('it begins again, and gives it', async () => {
        const { id } = await load(['one'], ['a:1'])
        await takenForDead().tag('a:1', 'b:1')
        expect(await rows()).toEqual([{ id, names: ['a:1', 'b:1'] }])
        expect((await store.list(PREFIX.leases)).objects.filter(({ key }) => key !== keys.lease('u'))).toEqual([])
      })

      it('to an image that was removed since, it does not', async () => {
        await load(['one'], ['a:1'])
        await expect(takenForDead(() => remove('a:1')).tag('a:1', 'b:1')).rejects.toMatchObject({
          code: 'image_not_found',
        })
        expect(await rows()).toEqual([])
      })

      it('where nobody waits for it any more, it does not', async () => {
        const { id } = await load(['one'], ['a:1'])
        const left = new AbortController()
        const told = takenForDead(() => left.abort()).tag('a:1', 'b:1', left.signal)
        await expect(told).rejects.toMatchObject({ code: 'upload_interrupted' })
        expect(await rows()).toEqual([{ id, names: ['a:1'] }])
      })
    })

    it('an image that it was to keep without its tag, and that was removed since, does not come back', async () => {
      const [first, second] = [await make(['one']), await load(['two'], ['a:1'])]
      const key = keys.imageDigest(parseTagged('a:1').repository, second.digest)
      // As an older version left it: a tag alone.
      await store.delete([key])
      const old = stoppedBefore(key, async () => {
        await remove('a:1')
        await putAgain(first.manifest, [parseTagged('a:1')])
      })
      await expect(old.put(first.manifest, [parseTagged('a:1')], run)).rejects.toMatchObject({
        code: 'upload_interrupted',
      })
      expect(await rows()).toEqual([{ id: first.id, names: ['a:1'] }])
    })

    it('it names nothing while its successor works, either', async () => {
      const { manifest, id } = await make(['one'])
      const second = await load(['two'], ['b:1'])
      const leases = new Leases(store)
      const old = stoppedBefore(keyOf('a:1'), async () => {
        const { run } = await leases.begin('u')
        await images.put(manifest, [parseTagged('a:1')], run)
        await images.tag('b:1', 'a:1')
        await leases.named(run, {})
      })
      await expect(old.put(manifest, [parseTagged('a:1')], run)).rejects.toMatchObject({ code: 'upload_interrupted' })
      expect(await rows()).toEqual(
        expect.arrayContaining([
          { id, names: [] },
          { id: second.id, names: ['a:1', 'b:1'] },
        ]),
      )
    })

    it('a name that it took over is as it was', async () => {
      const [first, second] = [await make(['one']), await load(['two'], ['a:1'])]
      const old = stoppedBefore(keyOf('a:1'), async () => {
        const leases = new Leases(store)
        expect(await leases.endUnchanged('u', (await leases.get('u'))!.etag)).toBe(true)
      })
      await expect(old.put(first.manifest, [parseTagged('a:1')], run)).rejects.toMatchObject({
        code: 'upload_interrupted',
      })
      expect((await images.resolve('a:1')).id).toBe(second.id)
    })
  })

  it('gives names, and leaves the image that had one before', async () => {
    const [first, second] = [await load(['one'], ['a:1']), await load(['two'], ['b:1'])]
    await images.tag('b:1', 'a:1')
    expect(await rows()).toEqual(
      expect.arrayContaining([
        { id: second.id, names: ['a:1', 'b:1'] },
        { id: first.id, names: [] },
      ]),
    )
    expect((await images.resolve(`a@${first.digest}`)).id).toBe(first.id)
    await images.tag(first.id, 'c')
    expect(await rows()).toEqual(expect.arrayContaining([{ id: first.id, names: ['c:latest'] }]))
    await expect(images.tag('nope', 'x')).rejects.toMatchObject({ code: 'image_not_found' })
    await expect(images.tag('a:1', `x@${first.digest}`)).rejects.toMatchObject({ code: 'bad_request' })
    await expect(images.tag('a:1', 'X Y')).rejects.toMatchObject({ code: 'name_invalid' })
    expect((await store.list(PREFIX.leases)).objects.map(({ key }) => key)).toEqual([keys.lease('u')])
  })

  it('loses no image when many move one tag at once', async () => {
    const made = await Promise.all(Array.from({ length: 6 }, (_, i) => make([`layer ${i}`])))
    await Promise.all(made.map(({ manifest }) => images.put(manifest, [parseTagged('a:1')], run)))
    const listed = (await images.page(1_000)).images
    expect(listed.map(({ digest }) => digest).sort()).toEqual(made.map(({ digest }) => digest).sort())
    expect(listed.map(({ names }) => names.length).sort()).toEqual([0, 0, 0, 0, 0, 1])
  })

  it('removes a tag by name, and with the last one the image', async () => {
    const { id } = await load(['base'], ['a:1', 'b:1'])
    const used = () => Promise.resolve(true)
    expect(await remove('a:1', false, used)).toEqual({ untagged: ['a:1'], deleted: [] })
    await expect(remove('a:1')).rejects.toMatchObject({ code: 'image_not_found' })
    await expect(remove('b:1', false, used)).rejects.toMatchObject({ code: 'image_in_use' })
    await expect(remove('b:1', true, used)).rejects.toMatchObject({ code: 'image_in_use' })
    expect(await rows()).toEqual([{ id, names: ['b:1'] }])
    expect(await remove('b:1')).toEqual({ untagged: ['b:1'], deleted: [id] })
    expect(await recordsLeft()).toBe(0)
  })

  it('removes by id what has one tag, and what has several when forced', async () => {
    const one = await load(['one'], ['a:1'])
    expect(await remove(one.id)).toEqual({ untagged: ['a:1'], deleted: [one.id] })
    const many = await load(['many'], ['a:1', 'a:2', 'b:1'])
    await expect(remove(many.id.slice(7, 20))).rejects.toMatchObject({ code: 'image_has_tags' })
    await expect(remove(many.id, true, (image) => Promise.resolve(image.id === many.id))).rejects.toMatchObject({
      code: 'image_in_use',
    })
    expect(await remove(many.digest, true)).toEqual({ untagged: ['a:1', 'a:2', 'b:1'], deleted: [many.id] })
    expect(await recordsLeft()).toBe(0)
  })

  it('removes with the last tag what the image left by digest as well', async () => {
    const [first] = [await load(['one'], ['a:1', 'b:1']), await load(['two'], ['a:1'])]
    expect(await remove('b:1')).toEqual({ untagged: ['b:1'], deleted: [first.id] })
    expect((await rows()).map(({ names }) => names)).toEqual([['a:1']])
  })

  it('removes by id every packing of the image, by digest one', async () => {
    const [plain, packed] = [await load(['one'], ['a:1']), await load(['one'], ['a:2'], { packing: ' gz' })]
    expect(plain.id).toBe(packed.id)
    expect(await remove(plain.digest)).toEqual({ untagged: ['a:1'], deleted: [] })
    await load(['one'], ['a:1'])
    expect(await remove(plain.id, true)).toEqual({ untagged: ['a:1', 'a:2'], deleted: [plain.id] })
  })

  it('removes an image by its repository and digest', async () => {
    const { id, digest } = await load(['one'], ['a:1'])
    await expect(remove(`b@${digest}`)).rejects.toMatchObject({ code: 'image_not_found' })
    expect(await remove(`a@${digest}`)).toEqual({ untagged: ['a:1'], deleted: [id] })
  })

  describe('while the last tag is removed', () => {
    const keyOfName = (name: string) => keys.tag(parseTagged(name).repository, parseTagged(name).tag!)
    /** The images of a caller that stands still behind the call of the store that `when` picks. */
    const stoppedBehind = (when: (verb: string, key: string) => boolean, meanwhile: () => Promise<unknown>): Images => {
      let once: Promise<unknown> | undefined
      return new Images(
        new Proxy(store, {
          get: (target, verb) => {
            const method = Reflect.get(target, verb) as unknown
            if (typeof method !== 'function') return method
            return async (key: string, ...rest: unknown[]) => {
              const done: unknown = await method.call(target, key, ...rest)
              if (typeof verb === 'string' && typeof key === 'string' && when(verb, key)) await (once ??= meanwhile())
              return done
            }
          },
        }),
      )
    }

    it('a tag that is set meanwhile stays', async () => {
      const { id, digest } = await load(['one'], ['a:1'])
      // Behind the first list of all tags of the image that follows the end of the name. Without
      // marks it is the second list: the first one is of tags in that repository.
      const areMarked = !kind.includes('not marked')
      let lists = -1
      const slow = stoppedBehind(
        (verb, key) => {
          if (['removeUnchanged', 'replace'].includes(verb) && key === keyOfName('a:1')) lists = 0
          return lists >= 0 && verb === 'list' && (areMarked ? key === keys.nameMarksOf(digest) : ++lists === 2)
        },
        () => load(['one'], ['b:1']),
      )
      expect(await slow.remove({ ref: 'a:1', force: false, inUse: free })).toMatchObject({ untagged: ['a:1'] })
      expect(await rows()).toEqual([{ id, names: ['b:1'] }])
    })

    it('an image that a container uses stays, though each of its two tags had the other beside it', async () => {
      const { id } = await load(['one'], ['a:1', 'b:1'])
      const used = () => Promise.resolve(true)
      const slow = stoppedBehind(
        (verb, key) => verb === 'read' && key === keyOfName('b:1'),
        () => remove('b:1', false, used),
      )
      expect(await slow.remove({ ref: 'a:1', force: false, inUse: used })).toEqual({ untagged: ['a:1'], deleted: [] })
      expect(await rows()).toEqual([{ id, names: [] }])
    })
  })

  it('of two who take the last two tags at once, the image is gone after both', async () => {
    const { id } = await load(['one'], ['a:1', 'b:1', 'c:1'])
    await load(['two'], ['c:1'])
    const ends = await Promise.all([remove('a:1'), remove('b:1')])
    expect(ends.flatMap(({ untagged }) => untagged).sort()).toEqual(['a:1', 'b:1'])
    expect((await rows()).map((row) => row.id)).not.toContain(id)
    expect((await rows()).map(({ names }) => names)).toEqual([['c:1']])
  })

  it('names every blob that images refer to, and tells when it cannot', async () => {
    const [first, second] = [await load(['base', 'one'], ['a', 'b']), await load(['base', 'two'], [])]
    const found = new Set<Digest>()
    for await (const digest of images.all.references()) found.add(digest)
    expect([...found].sort()).toEqual(
      [first.digest, first.id, second.digest, second.id, ...['base', 'one', 'two'].map(digestText)].sort(),
    )
    await store.delete([piecesOf((await blobs.stat(second.digest))!)[0]!.data])
    const unreadable: Unreadable[] = []
    const told = { had: () => undefined, unreadable: (one: Unreadable) => unreadable.push(one) }
    const again = new Set<Digest>()
    for await (const digest of images.all.references(undefined, told)) again.add(digest)
    // The record itself says which manifest and config it is of.
    expect([...again].sort()).toEqual([...found].filter((digest) => digest !== digestText('two')).sort())
    expect(unreadable).toEqual([
      expect.objectContaining({ name: second.digest, repository: undefined, surely: second.id }),
    ])
    await expect(images.inspect(second.id)).rejects.toMatchObject({ code: 'corrupt' })
    expect(await remove(second.id)).toMatchObject({ deleted: [second.id] })
  })
})
