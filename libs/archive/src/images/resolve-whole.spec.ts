import { digestOf, familiarReference, formatPlatform, MEDIA, parsePlatform, type Digest } from '@strata/oci'
import { describe, expect, it } from 'vitest'
import type { ArchiveImage } from './image-archive.js'
import { resolveArchive, type ResolveOptions } from './resolve.js'
import { listArchive } from '../testing/list-archive.js'
import { TestLayout } from '../testing/layout.js'

class Layout extends TestLayout {
  async resolve(top: object[], options: ResolveOptions = {}, without: Digest[] = []) {
    const { listing, readSmall } = listArchive(await this.tar(top, without))
    return resolveArchive(listing, readSmall, { host: parsePlatform('linux/amd64'), ...options })
  }
}

const named = (name: string) => ({ annotations: { 'io.containerd.image.name': `docker.io/library/${name}` } })
const shape = ({ names, platform, whole, missing }: ArchiveImage) => ({
  names: names.map(familiarReference),
  platform: formatPlatform(platform),
  others: whole?.others.map((other) => formatPlatform(other.platform)),
  root: whole?.root.digest,
  documents: whole?.documents.map(({ digest }) => digest),
  missing,
})

describe('one platform of several', () => {
  const several = async () => {
    const layout = new Layout()
    const [amd, arm, v6, v7] = [
      await layout.image('amd64'),
      await layout.image('arm64', 'v8'),
      await layout.image('arm', 'v6'),
      await layout.image('arm', 'v7'),
    ]
    return { layout, amd, arm, v6, v7, top: [{ ...layout.index([arm, v6, v7, layout.index([amd])]), ...named('a:1') }] }
  }

  it.each([
    ['linux/amd64', 'linux/amd64'],
    ['linux/arm64', 'linux/arm64/v8'],
    ['linux/aarch64', 'linux/arm64/v8'],
    ['linux/arm/v7', 'linux/arm/v7'],
    ['linux/arm', 'linux/arm/v6'],
  ])('asked for %s it is %s', async (asked, expected) => {
    const { layout, top } = await several()
    expect((await layout.resolve(top, { platform: parsePlatform(asked) })).map(shape)).toMatchObject([
      { names: ['a:1'], platform: expected, root: undefined },
    ])
  })

  it('says which there are', async () => {
    const { layout, top, v7, v6 } = await several()
    await expect(layout.resolve(top, { platform: parsePlatform('linux/s390x') })).rejects.toMatchObject({
      code: 'unsupported',
      message:
        'the archive has the image for linux/arm64/v8, linux/arm/v6, linux/arm/v7, linux/amd64, but not for linux/s390x',
    })
    // Of a sparse index: v7's manifest is not there, v6's is, without its layer.
    await expect(
      layout.resolve(top, { platform: parsePlatform('linux/s390x') }, [v7.digest, v6.layer]),
    ).rejects.toMatchObject({
      code: 'unsupported',
      message:
        'the archive has the image for linux/arm64/v8, linux/amd64, but not for linux/s390x (its index also names linux/arm/v7, which the archive leaves out)',
    })
  })

  it('takes no other where one is asked for, also of an image that has one', async () => {
    const layout = new Layout()
    const arm = await layout.image('arm64')
    expect(await layout.resolve([arm])).toHaveLength(1)
    await expect(layout.resolve([arm], { platform: parsePlatform('linux/amd64') })).rejects.toMatchObject({
      code: 'unsupported',
      message: 'the archive has the image for linux/arm64, but not for linux/amd64',
    })
  })
})

describe('all platforms', () => {
  const all: ResolveOptions = { platform: 'all' }

  it('are kept under their index, this machine’s first, with indexes and attestations below it', async () => {
    const layout = new Layout()
    const [amd, arm] = [await layout.image('amd64'), await layout.image('arm64')]
    const attestation = {
      ...layout.artifact(undefined),
      platform: { os: 'unknown', architecture: 'unknown' },
      annotations: { 'vnd.docker.reference.type': 'attestation-manifest', 'vnd.docker.reference.digest': amd.digest },
    }
    const inner = layout.index([arm, attestation], { annotations: { note: 'kept' } })
    const root = layout.index([inner, amd])
    const [image] = await layout.resolve(
      [
        { ...root, ...named('a:1') },
        { ...root, ...named('b:2') },
      ],
      all,
    )
    expect(shape(image!)).toEqual({
      names: ['a:1', 'b:2'],
      platform: 'linux/amd64',
      others: ['linux/arm64'],
      root: root.digest,
      documents: [inner.digest, attestation.digest],
      missing: undefined,
    })
    expect(image!.whole!.blobs).toHaveLength(2)
  })

  it('of a sparse index those that are there in full, and what is missing is said', async () => {
    const layout = new Layout()
    const [amd, arm, s390] = [await layout.image('amd64'), await layout.image('arm64'), await layout.image('s390x')]
    const root = layout.index([s390, arm, amd])
    expect((await layout.resolve([root], all, [amd.digest, s390.layer])).map(shape)).toEqual([
      {
        names: [],
        platform: 'linux/arm64',
        others: [],
        root: root.digest,
        documents: [],
        missing: ['linux/amd64', 'linux/s390x'],
      },
    ])
    // The receiver has the layer.
    expect(
      (
        await layout.resolve([root], { ...all, isKept: (digest) => Promise.resolve(digest === s390.layer) }, [
          amd.digest,
          s390.layer,
        ])
      ).map(shape),
    ).toMatchObject([{ others: ['linux/arm64'], missing: ['linux/amd64'] }])
  })

  it('beside each other in index.json get an index, the same each time', async () => {
    const layout = new Layout()
    const [amd, arm] = [await layout.image('amd64'), await layout.image('arm64')]
    const top = [
      { ...arm, ...named('a:1') },
      { ...amd, ...named('a:1') },
    ]
    const [first] = await layout.resolve(top, all)
    expect(shape(first!)).toMatchObject({ names: ['a:1'], platform: 'linux/amd64', others: ['linux/arm64'] })
    expect((await layout.resolve(top, all))[0]!.whole!.root).toEqual(first!.whole!.root)
  })

  it('what is attached comes along, to whatever part of the image, with all that it names or not at all', async () => {
    const layout = new Layout()
    const [amd, arm] = [await layout.image('amd64'), await layout.image('arm64')]
    const root = layout.index([amd, arm])
    const onRoot = layout.artifact(root)
    const onSignature = layout.artifact(onRoot, 'signed again')
    const onArm = layout.artifact(arm, 'of arm64')
    const [onNothing, onOther] = [
      layout.artifact(undefined, 'alone'),
      layout.artifact({ mediaType: MEDIA.manifest, digest: digestOf('other'), size: 5 }, 'of another'),
    ]
    const [image] = await layout.resolve(
      [onSignature, { ...root, ...named('a:1') }, onRoot, onArm, onNothing, onOther],
      all,
    )
    expect(shape(image!).documents?.sort()).toEqual([onRoot.digest, onSignature.digest, onArm.digest].sort())
    const [partly] = await layout.resolve([root, onRoot], all, [digestOf('signed')])
    expect(shape(partly!).documents).toEqual([])
    expect((await layout.resolve([root, onRoot])).map(({ whole }) => whole)).toEqual([undefined])
  })

  it('of an image that has one platform are that one; with a signature it is kept whole', async () => {
    const layout = new Layout()
    const amd = await layout.image('amd64')
    expect((await layout.resolve([amd], all)).map(shape)).toEqual([
      {
        names: [],
        platform: 'linux/amd64',
        others: undefined,
        root: undefined,
        documents: undefined,
        missing: undefined,
      },
    ])
    const signature = layout.artifact(amd)
    expect((await layout.resolve([amd, signature], all)).map(shape)).toMatchObject([
      { root: amd.digest, others: [], documents: [signature.digest] },
    ])
  })

  it('an image that is signed the old way, with an image’s config, is no second image', async () => {
    const layout = new Layout()
    const amd = await layout.image('amd64')
    const config = layout.add(
      { os: '', architecture: '', rootfs: { type: 'layers', diff_ids: [digestOf('payload')] } },
      MEDIA.config,
    )
    const signature = layout.add(
      { schemaVersion: 2, config, layers: [layout.add('payload', 'application/vnd.dev.cosign.simplesigning.v1+json')] },
      MEDIA.manifest,
    )
    expect(await layout.resolve([amd, signature])).toHaveLength(1)
  })
})
