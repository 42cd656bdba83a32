import { randomUUID } from 'node:crypto'
import { StrataError } from '@strata/base'
import { MAX_PARTS } from '@strata/images'
import { digestOf, MEDIA, parseDigest, parsePlatform, type Digest } from '@strata/oci'
import type { RemoteRepository } from '@strata/remote'
import { BlobStore, Leases } from '@strata/store'
import { temporaryStore } from '@strata/store/testing'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { MAX_PULLED_BLOBS, PulledDocuments } from './pulled-documents.js'

/** A repository that has manifests only, and notes which it was asked for. */
class Manifests {
  readonly asked: string[] = []
  readonly #documents = new Map<string, { mediaType: string; bytes: Buffer }>()

  add(document: { mediaType: string }, tag?: string) {
    const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, ...document }))
    const digest = digestOf(bytes)
    const { mediaType } = document
    for (const name of [digest, tag]) if (name !== undefined) this.#documents.set(name, { mediaType, bytes })
    return { mediaType, digest, size: bytes.length }
  }

  image(name: string, layers = 1) {
    const part = (text: string, mediaType: string) => ({ mediaType, digest: digestOf(text), size: text.length })
    return this.add({
      mediaType: MEDIA.manifest,
      config: part(`the config of ${name}`, MEDIA.config),
      layers: Array.from({ length: layers }, (_, at) => part(`${name} ${at}`, MEDIA.layer)),
    } as never)
  }

  index(children: readonly object[], tag?: string) {
    return this.add({ mediaType: MEDIA.index, manifests: children } as never, tag)
  }

  get repository(): RemoteRepository {
    return {
      manifest: (reference: string) => {
        this.asked.push(reference)
        const found = this.#documents.get(reference)
        if (!found) return Promise.reject(new StrataError('manifest_not_found', `no ${reference}`))
        return Promise.resolve({ digest: digestOf(found.bytes), ...found })
      },
    } as unknown as RemoteRepository
  }
}

let there: Manifests
let documents: PulledDocuments
let dispose: () => Promise<void>
beforeEach(async () => {
  const opened = await temporaryStore()
  ;({ dispose } = opened)
  const lease = randomUUID()
  await new Leases(opened.store).create(lease, { job: { kind: 'pull', id: lease }, request: {} })
  there = new Manifests()
  documents = new PulledDocuments(there.repository, new BlobStore(opened.store), lease, {
    signal: new AbortController().signal,
    onWait: () => undefined,
  })
})
afterEach(() => dispose())

const on = (platform: string) => ({ platform: parsePlatform(platform) })
const treeOf = async (root: { digest: Digest; mediaType: string }, wanted?: string) =>
  documents.tree(root, wanted === undefined || wanted === 'all' ? wanted : parsePlatform(wanted))

it.each([
  ['linux/arm64', 'arm64'],
  ['linux/arm/v7', 'arm v7'],
  // Of variants that would all do, the first.
  ['linux/arm', 'arm v6'],
])('of an index, what is for %s comes, and nothing else', async (wanted, name) => {
  const images = Object.fromEntries(['arm64', 'arm v6', 'arm v7', 'attached'].map((one) => [one, there.image(one)]))
  const root = there.index([
    { ...images['attached'], platform: { os: 'unknown', architecture: 'unknown' } },
    { ...images['arm64'], ...on('linux/arm64') },
    { ...images['arm v6'], ...on('linux/arm/v6') },
    { ...images['arm v7'], ...on('linux/arm/v7') },
  ])
  const tree = await treeOf(root, wanted)
  expect(tree.documents.map(({ digest }) => digest)).toEqual([images[name]!.digest, root.digest])
  expect(tree.image?.digest).toBe(images[name]!.digest)
  expect(there.asked).toEqual([root.digest, images[name]!.digest])
})

it('a platform is found in an index below, and the way to it comes with it', async () => {
  const image = there.image('nested')
  const inner = there.index([{ ...image, ...on('linux/s390x') }])
  const root = there.index([there.index([]), inner])
  const tree = await treeOf(root, 'linux/s390x')
  expect(tree.documents.map(({ digest }) => digest)).toEqual([image.digest, inner.digest, root.digest])
})

it('with all, each manifest comes once, what is below first', async () => {
  const [one, two] = [there.image('one'), there.image('two')]
  const inner = there.index([one, two])
  const root = there.index([{ ...one, ...on('linux/arm64') }, inner, inner, { ...one, mediaType: 'text/plain' }])
  const { documents: all } = await treeOf(root, 'all')
  expect(new Set(all.map(({ digest }) => digest)).size).toBe(all.length)
  expect(all.map(({ digest }) => digest)).toEqual(
    expect.arrayContaining([one.digest, two.digest, inner.digest, root.digest]),
  )
  const at = (digest: Digest): number => all.findIndex((document) => document.digest === digest)
  expect(at(two.digest)).toBeLessThan(at(inner.digest))
  expect(at(root.digest)).toBe(all.length - 1)
})

it('what is here already is not asked for again', async () => {
  const root = there.index([{ ...there.image('once'), ...on('linux/arm64') }], 'tag')
  const settled: unknown[] = []
  const settle = (found: unknown) => Promise.resolve(void settled.push(found))
  await documents.root('tag' as never, settle)
  await treeOf(root, 'linux/arm64')
  expect(there.asked).toHaveLength(2)
  await treeOf(root, 'linux/arm64')
  await documents.root(root.digest, settle)
  expect(there.asked).toHaveLength(2)
  expect(settled).toEqual([root, root].map(({ digest, mediaType }) => ({ digest, mediaType })))
})

it('an index that leads to too many manifests or blobs is refused before they come', async () => {
  const absent = Array.from({ length: MAX_PARTS + 1 }, (_, at) => ({
    mediaType: MEDIA.manifest,
    digest: digestOf(String(at)),
    size: 1,
  }))
  await expect(treeOf(there.index(absent), 'all')).rejects.toMatchObject({ code: 'limit_exceeded' })
  expect(there.asked).toHaveLength(1)
  const large = Array.from({ length: 8 }, (_, at) => there.image(`large ${at}`, MAX_PULLED_BLOBS / 4))
  there.asked.length = 0
  await expect(treeOf(there.index(large), 'all')).rejects.toMatchObject({ code: 'limit_exceeded' })
  // The index, and what was asked for at once.
  expect(there.asked.length).toBeLessThanOrEqual(8)
})

it('one image of an index that no repository would take does not come', async () => {
  const absent = Array.from({ length: MAX_PARTS }, (_, at) => ({
    mediaType: MEDIA.manifest,
    digest: digestOf(String(at)),
    size: 1,
  }))
  const image = { ...there.image('one'), ...on('linux/arm64') }
  expect((await treeOf(there.index([image, ...absent.slice(1)]), 'linux/arm64')).documents).toHaveLength(2)
  const tooMany = there.index([image, ...absent])
  await expect(treeOf(tooMany, 'linux/arm64')).rejects.toMatchObject({ code: 'limit_exceeded' })
})

it('indexes below that go on and on are not followed', async () => {
  let root = there.index([])
  for (let depth = 0; depth < 40; depth++)
    root = there.index([root, there.index([{ ...root, annotations: { at: String(depth) } }])])
  await expect(treeOf(root, 'linux/arm64')).rejects.toMatchObject({ code: 'unsupported' })
  expect(there.asked.length).toBeLessThan(20)
})

it('a manifest that is another than its descriptor says is refused', async () => {
  const image = there.image('an image')
  const root = there.index([{ ...image, mediaType: MEDIA.index }])
  await expect(treeOf(root, 'all')).rejects.toMatchObject({ code: 'not_an_image' })
  await expect(documents.get(parseDigest(digestOf('absent')), undefined)).rejects.toMatchObject({
    code: 'manifest_not_found',
  })
})
