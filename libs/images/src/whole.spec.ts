import { digestOf, MEDIA, parsePlatform, parseTagged, type Digest } from '@strata/oci'
import { BlobStore, Collector, Leases, type ObjectStore, type LeaseRun } from '@strata/store'
import { temporaryStore } from '@strata/store/testing'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { MAX_PARTS, type Whole } from './image.js'
import { Images } from './images.js'

describe('an image with all its platforms', () => {
  let store: ObjectStore
  let dispose: () => Promise<void>
  let images: Images
  let blobs: BlobStore
  let run: LeaseRun
  beforeEach(async () => {
    ;({ store, dispose } = await temporaryStore())
    images = new Images(store)
    await images.markNames()
    blobs = new BlobStore(store)
    run = await new Leases(store).create('u', { job: { kind: 'load', id: 'u' }, request: {} })
  })
  afterEach(() => dispose())

  const keep = async (content: string | object) => {
    const bytes = Buffer.from(typeof content === 'string' ? content : JSON.stringify(content))
    await blobs.add(digestOf(bytes), bytes, 'u')
    return { digest: digestOf(bytes), size: bytes.length }
  }
  const platform = async (architecture: string) => {
    const config = {
      mediaType: MEDIA.config,
      ...(await keep({ os: 'linux', architecture, rootfs: { type: 'layers', diff_ids: [digestOf(architecture)] } })),
    }
    const manifest = await keep({
      schemaVersion: 2,
      mediaType: MEDIA.manifest,
      config,
      layers: [{ mediaType: MEDIA.layer, ...(await keep(architecture)) }],
    })
    return { ...manifest, mediaType: MEDIA.manifest, platform: { os: 'linux', architecture }, id: config.digest }
  }
  const indexOf = (manifests: object[]) =>
    Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: MEDIA.index, manifests }))
  const part = ({ digest, platform: { architecture } }: Awaited<ReturnType<typeof platform>>) => ({
    digest,
    platform: `linux/${architecture}`,
  })
  const collect = async () =>
    new Collector(store).collect({ dryRun: false, references: (told) => images.all.references(undefined, told) })
  const isThere = async (...digests: Digest[]) =>
    Promise.all(digests.map(async (digest) => (await blobs.stat(digest)) !== undefined))

  const several = async () => {
    const [amd, arm] = [await platform('amd64'), await platform('arm64')]
    const signature = await keep({
      schemaVersion: 2,
      mediaType: MEDIA.manifest,
      config: { ...(await keep('{}')), mediaType: 'application/vnd.oci.empty.v1+json' },
      layers: [{ ...(await keep('signed')), mediaType: 'text/plain' }],
      subject: arm,
    })
    const root = indexOf([
      amd,
      arm,
      {
        mediaType: MEDIA.manifest,
        digest: digestOf('never here'),
        size: 10,
        platform: { os: 'linux', architecture: 's390x' },
      },
    ])
    const whole: Whole = { manifest: amd.digest, parts: [part(amd), part(arm), { digest: signature.digest }] }
    return { amd, arm, signature, root, whole }
  }

  it('is one image under the index’s digest, and each platform of it can be looked at', async () => {
    const { amd, arm, root, whole } = await several()
    await images.putWhole(root, whole, [parseTagged('a:1')], run)
    expect((await images.page(1_000)).images).toMatchObject([
      { id: amd.id, digest: digestOf(root), mediaType: MEDIA.index, names: ['a:1'], layers: 1, size: 10 },
    ])
    expect(await images.inspect('a:1')).toMatchObject({
      id: amd.id,
      config: { architecture: 'amd64' },
      layerList: [{ digest: digestOf('amd64') }],
    })
    expect(await images.inspect('a:1', parsePlatform('linux/arm64'))).toMatchObject({
      id: arm.id,
      digest: digestOf(root),
      layerList: [{ digest: digestOf('arm64') }],
    })
    await expect(images.inspect('a:1', parsePlatform('linux/s390x'))).rejects.toMatchObject({
      code: 'unsupported',
      message: `the image ${digestOf(root)} is here for linux/amd64, linux/arm64, but not for linux/s390x`,
    })
    expect((await images.contents('a:1', parsePlatform('linux/arm64'))).manifest).toMatchObject({
      digest: arm.digest,
      mediaType: MEDIA.manifest,
    })
  })

  it('consists of all that is here: a collection leaves it, and takes it with its last name', async () => {
    const { amd, arm, signature, root, whole } = await several()
    await images.putWhole(root, whole, [parseTagged('a:1')], run)
    await images.tag('a:1', 'b:1')
    await new Leases(store).end('u')
    const all = [
      digestOf(root),
      amd.digest,
      arm.digest,
      signature.digest,
      amd.id,
      arm.id,
      digestOf('amd64'),
      digestOf('arm64'),
      digestOf('signed'),
      digestOf('{}'),
    ]
    expect((await collect()).report.blobs.count).toBe(0)
    expect(await images.remove({ ref: 'a:1', force: false, inUse: () => Promise.resolve(false) })).toEqual({
      untagged: ['a:1'],
      deleted: [],
    })
    await collect()
    expect(await isThere(...all)).toEqual(all.map(() => true))
    const { manifest, whole: contents } = await images.contents('b:1')
    expect(manifest.digest).toBe(digestOf(root))
    expect(contents?.attached.map(({ digest }) => digest)).toEqual([signature.digest])
    expect(await images.all.usage(() => true)).toMatchObject({ total: 1, reclaimable: 0 })
    expect(await images.remove({ ref: 'b:1', force: false, inUse: () => Promise.resolve(false) })).toEqual({
      untagged: ['b:1'],
      deleted: [amd.id],
    })
    expect((await collect()).report.blobs.count).toBe(all.length)
  })

  it('what came in two parts, under whatever names, is all kept', async () => {
    const { amd, arm, signature, root, whole } = await several()
    const parts = (...digests: Digest[]): Whole => ({
      manifest: digests[0]!,
      parts: whole.parts.filter(({ digest }) => digests.includes(digest)),
    })
    await images.putWhole(root, parts(amd.digest), [parseTagged('a:1'), parseTagged('b:1')], run)
    await images.putWhole(root, parts(arm.digest), [parseTagged('a:1')], run)
    await images.putWhole(root, parts(arm.digest, signature.digest), [parseTagged('c:1')], run)
    await new Leases(store).end('u')
    expect((await collect()).report.blobs.count).toBe(0)
    expect((await images.page(1_000)).images.map(({ names, whole: kept }) => [names, kept?.parts.length])).toEqual([
      [['a:1', 'b:1', 'c:1'], 3],
    ])
    expect((await images.resolve('a:1')).whole?.parts.map(({ digest }) => digest)).toEqual([amd.digest, arm.digest])
  })

  it('is refused where its parts together would be too many for a record', async () => {
    const { root, whole, amd } = await several()
    const many = async (from: number) =>
      Promise.all(
        Array.from({ length: MAX_PARTS / 2 }, async (_, i) => ({
          digest: (await keep({ schemaVersion: 2, manifests: [], annotations: { n: `${from + i}` } })).digest,
        })),
      )
    await images.putWhole(root, { ...whole, parts: [part(amd), ...(await many(0))] }, [parseTagged('a:1')], run)
    await expect(
      images.putWhole(root, { ...whole, parts: [part(amd), ...(await many(MAX_PARTS))] }, [parseTagged('a:1')], run),
    ).rejects.toMatchObject({ code: 'limit_exceeded' })
    expect((await images.resolve('a:1')).whole?.parts).toHaveLength(1 + MAX_PARTS / 2)
  })

  it('is refused without all that it says to have', async () => {
    const { root, whole } = await several()
    await expect(
      images.putWhole(root, { ...whole, parts: [...whole.parts, { digest: digestOf('gone') }] }, [], run),
    ).rejects.toMatchObject({ code: 'layer_missing' })
    expect((await images.page(1_000)).images).toEqual([])
  })

  it('an image of one platform is for no other', async () => {
    const amd = await platform('amd64')
    await images.put(await blobs.read(amd.digest, 1000), [parseTagged('a:1')], run)
    await expect(images.inspect('a:1', parsePlatform('linux/arm64'))).rejects.toMatchObject({ code: 'unsupported' })
    await expect(images.contents('a:1', parsePlatform('linux/arm64'))).rejects.toMatchObject({ code: 'unsupported' })
    expect(await images.inspect('a:1', parsePlatform('linux/amd64'))).toMatchObject({ id: amd.id })
  })
})
