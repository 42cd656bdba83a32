import { StrataError } from '@strata/base'
import { digestOf, parseTagged, type Digest } from '@strata/oci'
import { BlobStore, keys, Leases, piecesOf, type ObjectStore } from '@strata/store'
import { temporaryStore } from '@strata/store/testing'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { Images } from './images.js'

let inner: ObjectStore
let dispose: () => Promise<void>
/** Done once, when the next bytes of a blob are read. */
let meanwhile: (() => Promise<void>) | undefined
let images: Images
beforeEach(async () => {
  const temporary = await temporaryStore()
  inner = temporary.store
  dispose = temporary.dispose
  const read: ObjectStore['read'] = async (key, maxBytes) => {
    const work = key.startsWith('data/') ? meanwhile : undefined
    if (work) meanwhile = undefined
    await work?.()
    return inner.read(key, maxBytes)
  }
  const store = new Proxy(inner, {
    get: (target, name) => {
      const member: unknown = name === 'read' ? read : Reflect.get(target, name, target)
      return typeof member === 'function' ? (member.bind(target) as unknown) : member
    },
  })
  images = new Images(store)
})
afterEach(() => dispose())

async function load(number: number): Promise<Digest> {
  const [upload, leases] = [`u${number}`, new Leases(inner)]
  const run = await leases.create(upload, { job: { kind: 'load', id: upload }, request: {} })
  const json = (value: object) => Buffer.from(JSON.stringify(value))
  const config = json({
    architecture: 'amd64',
    os: 'linux',
    rootfs: { type: 'layers', diff_ids: [] },
    author: `${number}`,
  })
  await new BlobStore(inner).add(digestOf(config), config, upload)
  const descriptor = {
    mediaType: 'application/vnd.oci.image.config.v1+json',
    digest: digestOf(config),
    size: config.length,
  }
  const mediaType = 'application/vnd.oci.image.manifest.v1+json'
  const manifest = json({ schemaVersion: 2, mediaType, config: descriptor, layers: [] })
  const { digest } = await new Images(inner).put(manifest, [parseTagged('a:1')], run)
  await leases.endBy(run, 'done')
  return digest
}

/** As a collection does. */
async function deleteManifest(digest: Digest): Promise<void> {
  const record = (await new BlobStore(inner).stat(digest))!
  await inner.delete(piecesOf(record).map(({ data }) => data))
}

const reads: [string, () => Promise<unknown>][] = [
  ['inspect', () => images.inspect('a:1')],
  ['layers', () => images.layers('a:1')],
  ['contents', () => images.contents('a:1')],
]

it.each(reads)('%s of an image that is removed and collected meanwhile says that it was removed', async (_, read) => {
  const digest = await load(1)
  meanwhile = async () => {
    await new Images(inner).remove({ ref: 'a:1', force: false, inUse: () => Promise.resolve(false) })
    await deleteManifest(digest)
  }
  await expect(read()).rejects.toMatchObject({
    code: 'image_not_found',
    message: 'the image "a:1" was removed meanwhile',
  })
})

it.each(reads)('%s of a name that is given to another image meanwhile is of that one', async (_, read) => {
  const digest = await load(1)
  meanwhile = async () => {
    await load(2)
    await new Images(inner).remove({ ref: digest, force: false, inUse: () => Promise.resolve(false) })
    await deleteManifest(digest)
  }
  await expect(read()).resolves.toBeDefined()
})

it.each(reads)('%s of an image that is there and lacks a part says that it is damaged', async (_, read) => {
  await deleteManifest(await load(1))
  await expect(read()).rejects.toMatchObject({ code: 'corrupt' })
})

it('other work that reads an image is judged alike, and what has nothing to do with it is not done twice', async () => {
  await load(1)
  let times = 0
  const failing = (code: 'not_found' | 'bad_request') => () => {
    times++
    return Promise.reject(new StrataError(code, 'no'))
  }
  await expect(images.reading('a:1', failing('bad_request'))).rejects.toMatchObject({ code: 'bad_request' })
  expect(times).toBe(1)
  await expect(images.reading('a:2', failing('not_found'))).rejects.toMatchObject({ code: 'image_not_found' })
  await expect(images.reading(['a:1', 'a:2'], failing('not_found'))).rejects.toMatchObject({
    code: 'image_not_found',
    message: 'the image "a:2" was removed meanwhile',
  })
  expect(await inner.stat(keys.tag(parseTagged('a:1').repository, parseTagged('a:1').tag!))).toBeDefined()
})
