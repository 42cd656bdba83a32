import { digestOf, parseTagged, type Digest } from '@strata/oci'
import { BlobStore, keys, Leases, type ObjectStore, type Unreadable } from '@strata/store'
import { temporaryStore, withoutAbilities } from '@strata/store/testing'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Images } from './images.js'
import { gathered } from './testing/gathered.js'

const notInUse = () => Promise.resolve(false)

describe.each(['a store with a lock of its own', 'a store with the verbs alone'])('a damaged name on %s', (kind) => {
  let store: ObjectStore
  let dispose: () => Promise<void>
  let images: Images
  let loads = 0
  const tagKey = (text: string): string => {
    const { repository, tag } = parseTagged(text)
    return keys.tag(repository, tag!)
  }
  const damage = async (key: string): Promise<void> => {
    const { etag } = (await store.stat(key))!
    expect(await store.replace(key, Buffer.from('{"rev":'), etag)).toBeDefined()
  }
  /** Of each number another image, without layers. */
  const load = async (number: number, ...names: string[]): Promise<Digest> => {
    const [upload, leases] = [`u${loads++}`, new Leases(store)]
    const run = await leases.create(upload, { job: { kind: 'load', id: upload }, request: {} })
    const json = (value: object) => Buffer.from(JSON.stringify(value))
    const config = json({
      architecture: 'amd64',
      os: 'linux',
      rootfs: { type: 'layers', diff_ids: [] },
      author: `${number}`,
    })
    await new BlobStore(store).add(digestOf(config), config, upload)
    const descriptor = {
      mediaType: 'application/vnd.oci.image.config.v1+json',
      digest: digestOf(config),
      size: config.length,
    }
    const mediaType = 'application/vnd.oci.image.manifest.v1+json'
    const { digest } = await images.put(
      json({ schemaVersion: 2, mediaType, config: descriptor, layers: [] }),
      names.map(parseTagged),
      run,
    )
    await leases.endBy(run, 'done')
    return digest
  }
  const names = async () => (await images.page(1_000)).images.flatMap((image) => image.names)
  const references = async () => [...new Set(await gathered(images.all.references()))]
  const unreadable = async () => {
    const found: Unreadable[] = []
    const told = { had: () => undefined, unreadable: (one: Unreadable) => found.push(one) }
    await gathered(images.all.references(undefined, told))
    return found
  }
  const removeUntagged = async () => {
    for (const { digest } of await images.all.untagged()) await images.removeUntagged(digest)
  }
  beforeEach(async () => {
    const temporary = await temporaryStore()
    dispose = temporary.dispose
    store = kind === 'a store with the verbs alone' ? withoutAbilities(temporary.store) : temporary.store
    images = new Images(store)
    await images.markNames()
    await load(1, 'a:1')
    await load(2, 'b:1')
    await damage(tagKey('a:1'))
  })
  afterEach(() => dispose())

  it('hides no other, and says what to do', async () => {
    expect(await names()).toEqual(['b:1'])
    expect((await images.inspect('b:1')).names).toEqual(['b:1'])
    // What it stands for is still in its repository, without a tag.
    expect(await images.all.usage(() => false)).toMatchObject({ total: 2 })
    await images.tag('b:1', 'c:1')
    await images.remove({ ref: 'c:1', force: false, inUse: notInUse })
    await expect(images.resolve('a:1')).rejects.toMatchObject({
      code: 'corrupt',
      message: expect.stringMatching(/is not JSON: load a:1 again, or remove it \(strata rmi a:1\)/) as string,
    })
  })

  it('may be the tag of any image of its repository, and stops nothing', async () => {
    const told = await unreadable()
    expect(told).toEqual([
      expect.objectContaining({ name: 'a:1', reason: expect.stringContaining('strata rmi a:1') as string }),
    ])
    expect(await gathered(images.all.stacks())).toHaveLength(2)
    // What it stood for has no other tag, and is not taken for untagged.
    expect(await images.all.untagged()).toEqual([])
  })

  it.each(['a:1', 'docker.io/library/a:1'])('goes by its name, %s', async (ref) => {
    expect(await images.remove({ ref, force: false, inUse: notInUse })).toEqual({ untagged: ['a:1'], deleted: [] })
    await expect(images.resolve('a:1')).rejects.toMatchObject({ code: 'image_not_found' })
    await removeUntagged()
    expect(await references()).toHaveLength(2)
  })

  it('goes when an image is loaded over it, or given it', async () => {
    const digest = await load(3, 'a:1')
    expect((await images.resolve('a:1')).digest).toBe(digest)
    await damage(tagKey('a:1'))
    const other = await images.tag('b:1', 'a:1')
    expect((await images.resolve('a:1')).digest).toBe(other.digest)
    await removeUntagged()
    expect(await references()).toHaveLength(2)
  })

  it('goes by its digest where it has no tag, and where it has no name at all', async () => {
    await images.remove({ ref: 'a:1', force: false, inUse: notInUse })
    const digest = await load(3)
    await damage(keys.imageDigest(undefined, digest))
    expect(await unreadable()).toEqual([expect.objectContaining({ name: digest, refersTo: 'any blob' })])
    expect(await images.remove({ ref: digest, force: false, inUse: notInUse })).toEqual({
      untagged: [digest],
      deleted: [],
    })
    const moved = await images.resolve('b:1')
    await load(4, 'b:1')
    const { repository } = parseTagged('b:1')
    await damage(keys.imageDigest(repository, moved.digest))
    const ref = `b@${moved.digest}`
    expect(await images.remove({ ref, force: false, inUse: notInUse })).toEqual({ untagged: [ref], deleted: [] })
    expect(await names()).toEqual(['b:1'])
    await removeUntagged()
    expect(await references()).toHaveLength(2)
  })

  it('is no end for an upload that was about to write over it', async () => {
    const leases = new Leases(store)
    const run = await leases.create('late', { job: { kind: 'load', id: 'late' }, request: {}, state: 'committing' })
    await leases.announce(run, tagKey('a:1'))
    await leases.begin('late')
    expect(await leases.endUnchanged('late', (await leases.get('late'))!.etag)).toBe(true)
    await expect(images.resolve('a:1')).rejects.toMatchObject({ code: 'corrupt' })
  })
})
