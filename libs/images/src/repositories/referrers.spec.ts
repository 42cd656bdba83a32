import { digestOf, MEDIA, type Digest } from '@strata/oci'
import { keys, type ObjectStore } from '@strata/store'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { artifactOf, imageOf, indexOf, repositoryOf } from '../testing/pushing-client.js'
import { STORE_KINDS, TestRegistry } from '../testing/test-registry.js'
import { Repositories } from './repositories.js'

const app = repositoryOf('team/app')
const SIGNATURE = 'application/vnd.dev.cosign.artifact.sig.v1+json'
const MIB = 1024 * 1024

/** The store, and how many manifests were read from it at once at most. */
function watched(store: ObjectStore) {
  let [now, most] = [0, 0]
  const read: ObjectStore['read'] = async (key, maxBytes) => {
    if (!key.startsWith('data/')) return store.read(key, maxBytes)
    most = Math.max(most, ++now)
    try {
      return await store.read(key, maxBytes)
    } finally {
      now--
    }
  }
  const proxy = new Proxy(store, {
    get: (target, name) => {
      const member: unknown = name === 'read' ? read : Reflect.get(target, name, target)
      return typeof member === 'function' ? (member.bind(target) as unknown) : member
    },
  })
  return { store: proxy, most: () => most }
}

describe.each(STORE_KINDS)('referrers on %s', (kind) => {
  let registry: TestRegistry
  beforeEach(async () => {
    registry = await TestRegistry.open(kind)
  })
  afterEach(() => registry.dispose())

  const subject = imageOf(['subject']).manifest.digest
  const refers = { subject: { digest: subject, size: 1, mediaType: MEDIA.manifest } }
  const signature = (content: string, more: object = {}) => artifactOf(content, SIGNATURE, { ...refers, ...more })
  const listed = async (of = subject) => (await registry.repositories.referrers.page(app, of, 100)).referrers

  it('however many pages are made at the same time, a few manifests are read at once, and each is counted when it is held', async () => {
    const made = Array.from({ length: 5 }, (_, i) => signature(`${i}`, { annotations: { large: 'x'.repeat(20_000) } }))
    for (const one of made) await registry.client.push(app, one)
    const { store, most } = watched(registry.store)
    const { referrers } = new Repositories(store)
    let counted = 0
    const pages = await Promise.all(
      Array.from({ length: 20 }, () => referrers.page(app, subject, 100, { count: (bytes) => (counted += bytes) })),
    )
    expect(most()).toBeLessThanOrEqual(4)
    const sizes = pages.map((page) => page.referrers.map((one) => Buffer.byteLength(JSON.stringify(one))))
    expect(counted).toBe(sizes.flat().reduce((sum, size) => sum + size, 0))
    for (const page of pages) expect(page.referrers).toHaveLength(5)
  })

  it('a page ends before it has more than 4 MiB, reads a few manifests at once, and all are in some page', async () => {
    const made = Array.from({ length: 7 }, (_, i) =>
      signature(`${i}`, { annotations: { large: 'x'.repeat(1.5 * MIB), number: `${i}` } }),
    )
    for (const one of made) await registry.client.push(app, one)
    const { store, most } = watched(registry.store)
    const { referrers } = new Repositories(store)
    const found: Digest[] = []
    const sizes: number[] = []
    let after: Digest | undefined
    do {
      const page = await referrers.page(app, subject, 1_000_000_000, { after })
      sizes.push(Buffer.byteLength(JSON.stringify(page.referrers)))
      found.push(...page.referrers.map(({ digest }) => digest))
      after = page.next
    } while (after !== undefined)
    expect(found).toEqual(made.map(({ manifest }) => manifest.digest).sort())
    expect(sizes.length).toBeGreaterThan(3)
    expect(Math.max(...sizes)).toBeLessThan(4 * MIB + 1_000)
    expect(most()).toBeLessThanOrEqual(4)
  })

  it('a single one of more than that is a page', async () => {
    const large = signature('large', { annotations: { large: '\u0001'.repeat(0.6 * MIB) } })
    await registry.client.push(app, large)
    await registry.client.push(app, signature('other'))
    expect(large.manifest.size).toBeLessThan(4 * MIB)
    const { referrers, next } = await registry.repositories.referrers.page(app, subject, 10)
    const rest = next ? (await registry.repositories.referrers.page(app, subject, 10, { after: next })).referrers : []
    expect([...referrers, ...rest].map(({ digest }) => digest)).toContain(large.manifest.digest)
    expect([...referrers, ...rest]).toHaveLength(2)
  })

  it('one whose bytes are gone hides no other', async () => {
    const [lost, other] = [signature('lost', { annotations: { large: 'x'.repeat(100_000) } }), signature('other')]
    for (const one of [lost, other]) await registry.client.push(app, one)
    await registry.store.delete([keys.blob(lost.manifest.digest)])
    expect((await listed()).map(({ digest }) => digest)).toContain(other.manifest.digest)
  })

  it('an image with a subject that was loaded, and then pushed by a tag, is one', async () => {
    const image = imageOf(['one'], refers)
    await registry.load(image, 'team/app:1')
    expect(await listed()).toEqual([])
    await registry.client.push(app, image, '2')
    expect((await listed()).map(({ digest }) => digest)).toEqual([image.manifest.digest])
    for (const tag of ['1', '2'])
      expect(await registry.images.resolve(`team/app:${tag}`)).toMatchObject({ id: image.id })
  })

  it('a signature that came with an index that was loaded is one, until it or the index is deleted', async () => {
    const of = imageOf(['two'], {}, 'arm64').manifest.digest
    const attached = [1, 2].map((number) =>
      artifactOf(`${number}`, SIGNATURE, {
        subject: { digest: of, size: 1, mediaType: MEDIA.manifest },
        annotations: { number: `${number}` },
      }),
    )
    const { arm } = await registry.loadIndex('team/app:all', attached)
    expect(arm.manifest.digest).toBe(of)
    const found = await listed(of)
    expect(found.map(({ annotations }) => annotations['number']).sort()).toEqual(['1', '2'])
    expect(found[0]).toMatchObject({ artifactType: SIGNATURE, mediaType: MEDIA.manifest })
    await registry.collect()
    expect(await registry.repositories.manifests.delete(app, attached[0]!.manifest.digest)).toBe(true)
    expect((await listed(of)).map(({ digest }) => digest)).toEqual([attached[1]!.manifest.digest])
    expect(await registry.images.resolve('team/app:all')).toMatchObject({ whole: { parts: { length: 3 } } })
    await registry.remove('team/app:all')
    expect(await listed(of)).toEqual([])
    await registry.collect()
    expect(await registry.left()).toEqual([])
  })

  it('a signature that was pushed for a tag is one as a part of an index when its own record is gone', async () => {
    const arm = imageOf(['two'], {}, 'arm64')
    const of = arm.manifest.digest
    const signed = artifactOf('1', SIGNATURE, { subject: { digest: of, size: 1, mediaType: MEDIA.manifest } })
    await registry.client.push(app, arm)
    const index = indexOf([arm, { ...signed, architecture: 'unknown' }])
    await registry.client.push(app, index, 'all')
    expect(await listed(of)).toEqual([])
    await registry.client.push(app, signed, 'signature')
    await registry.remove('team/app:signature')
    await registry.collect()
    expect((await listed(of)).map(({ digest }) => digest)).toEqual([signed.manifest.digest])
    expect(await registry.repositories.manifests.delete(app, signed.manifest.digest)).toBe(true)
    expect(await listed(of)).toEqual([])
    expect(await registry.repositories.manifests.delete(app, index.manifest.digest)).toBe(true)
    expect(await registry.repositories.manifests.delete(app, of)).toBe(true)
    await registry.collect()
    expect(await registry.left()).toEqual([])
  })

  it('pages of tags, manifests and repositories have a bound of their own', async () => {
    const { tags, manifests } = registry.repositories
    await registry.client.push(app, imageOf(['one']), '1')
    expect((await tags.page(app, 1e9)).tags).toEqual(['1'])
    expect((await manifests.page(app, 1e9)).digests).toHaveLength(1)
    expect((await registry.repositories.page(1e9)).repositories).toEqual([app])
    expect((await registry.repositories.referrers.page(app, digestOf('none'), 1e9)).referrers).toEqual([])
  })
})
