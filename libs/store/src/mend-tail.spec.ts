import { randomBytes } from 'node:crypto'
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { digestOf, parseReference, type Tag } from '@strata/oci'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { piecesOf } from './blobs/blob-record.js'
import { BlobStore } from './blobs/blobs.js'
import { freshDataKey, keys } from './keys.js'
import { Records } from './records.js'
import { putImage } from './testing/put-image.js'
import { Leases } from './leases/leases.js'
import { DurableFolder } from './folder/durable-folder.js'
import { FolderStore } from './folder/folder-store.js'
import { SyncMarkFile } from './folder/sync-mark.js'
import { mendTail } from './mend-tail.js'

let root: string
let warnings: string[]
let syncs: number
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'strata-tail-'))
  warnings = []
  syncs = 0
})
afterEach(() => rmSync(root, { recursive: true }))

const sync = () => {
  syncs++
  return Promise.resolve()
}
const open = (boot: string) =>
  FolderStore.open(root, mendTail, { sync, boot, warn: (message) => warnings.push(message) })
const file = (key: string) => join(root, 'objects', key)
const dataOf = async (store: FolderStore, digest: string) =>
  file(piecesOf((await new BlobStore(store).stat(digest as never))!)[0]!.data)
/** As a page that never reached the disk: the file has its length, and zeros. */
function zero(path: string): void {
  chmodSync(path, 0o600)
  writeFileSync(path, Buffer.alloc(statSync(path).size))
}
function cut(path: string): void {
  chmodSync(path, 0o600)
  truncateSync(path, statSync(path).size >> 1)
}
function empty(path: string): void {
  chmodSync(path, 0o600)
  truncateSync(path)
}
function rot(path: string): void {
  chmodSync(path, 0o600)
  const bytes = readFileSync(path)
  bytes[bytes.length >> 1]! ^= 1
  writeFileSync(path, bytes)
}

describe('the tail of an earlier boot', () => {
  /** Two images with a layer in common, and one alone. */
  async function threeImages() {
    const store = await open('one')
    const common = randomBytes(300_000)
    const first = await putImage(store, 'docker.io/library/first:1', [common, randomBytes(5_000)])
    const second = await putImage(store, 'docker.io/library/second:1', [common])
    const alone = await putImage(store, 'docker.io/library/alone:1', [randomBytes(2_000)])
    return { store, first, second, alone }
  }
  it('a blob in pieces is there with all of them, or gone', async () => {
    const store = await open('one')
    const [blobs, leases] = [new BlobStore(store), new Leases(store)]
    await leases.create('u', { job: { kind: 'push', id: 'u' }, request: {} })
    const commit = async () => {
      const parts = [randomBytes(3_000), randomBytes(300_000), randomBytes(20)]
      const pieces = []
      for (const part of parts) {
        const data = freshDataKey('u')
        await store.put(data, part)
        pieces.push({ data, size: part.length })
      }
      const bytes = Buffer.concat(parts)
      await blobs.commit(digestOf(bytes), { pieces, size: bytes.length }, 'u')
      return { bytes, digest: digestOf(bytes), files: pieces.map(({ data }) => file(data)) }
    }
    const [whole, rotten, short] = [await commit(), await commit(), await commit()]
    await store.close()
    rot(rotten.files[1]!)
    cut(short.files[2]!)
    const after = await open('two')
    const again = new BlobStore(after)
    expect((await again.read(whole.digest, whole.bytes.length)).equals(whole.bytes)).toBe(true)
    expect(await again.stat(rotten.digest)).toBeUndefined()
    expect(await again.stat(short.digest)).toBeUndefined()
    await after.close()
  })

  it('says no more that all have their marks: some may be lost', async () => {
    const { store } = await threeImages()
    const all = [keys.allUsedMarked, keys.allNamesMarked]
    for (const key of all) await store.create(key, Buffer.from('{}'))
    await store.close()
    const again = await open('two')
    for (const key of all) expect(await again.stat(key)).toBeUndefined()
    await again.close()
  })

  const namesIn = async (store: FolderStore) => (await store.list('images/')).objects.map(({ key }) => key).sort()

  it('a layer that is elsewhere takes no image away, unless it was here and is gone', async () => {
    const store = await open('one')
    const layer = randomBytes(5_000)
    const never = await putImage(store, 'docker.io/library/never:1', [randomBytes(100)], randomBytes(10))
    const once = await putImage(store, 'docker.io/library/once:1', [randomBytes(100)], layer)
    const leases = new Leases(store)
    await leases.create('u', { job: { kind: 'push', id: 'u' }, request: {} })
    await new BlobStore(store).add(digestOf(layer), layer, 'u')
    await leases.end('u')
    const path = await dataOf(store, digestOf(layer))
    await store.close()
    zero(path)
    const after = await open('two')
    expect(await after.stat(never.name)).toBeDefined()
    expect(await after.stat(once.name)).toBeUndefined()
    expect(warnings.join()).toContain(digestOf(layer))
    await after.close()
  })

  it.each([false, true])(
    'an image of several platforms stays, unless something of one of them is gone: %s',
    async (isDamaged) => {
      const store = await open('one')
      const [amd, arm] = [
        await putImage(store, 'docker.io/library/amd:1', [randomBytes(3_000)]),
        await putImage(store, 'docker.io/library/arm:1', [randomBytes(3_000)]),
      ]
      const index = Buffer.from(
        JSON.stringify({
          schemaVersion: 2,
          manifests: [amd, arm].map(({ manifest }) => ({ digest: manifest, size: 1 })),
        }),
      )
      const many = keys.tag(parseReference('docker.io/library/many').repository, 'v1' as Tag)
      const leases = new Leases(store)
      await leases.create('u', { job: { kind: 'load', id: 'u' }, request: {} })
      await new BlobStore(store).add(digestOf(index), index, 'u')
      const value = { digest: digestOf(index), whole: { parts: [{ digest: amd.manifest }, { digest: arm.manifest }] } }
      await new Records(store, z.object({ digest: z.string(), whole: z.unknown() }), 'the record of image name').update(
        many,
        () => value,
      )
      await leases.end('u')
      if (isDamaged) cut(await dataOf(store, arm.layers[0]!))
      await store.close()
      const after = await open('two')
      expect(await namesIn(after)).toEqual(isDamaged ? [amd.name] : [amd.name, arm.name, many].sort())
      await after.close()
    },
  )

  it.each([
    ['data that is shorter', cut],
    ['data of zeros', zero],
    ['data with one bit that is wrong', rot],
    ['data that is not there', (path: string) => rmSync(path)],
  ])('drops every image that needs a layer with %s, whole, with a line each', async (_, damage) => {
    const { store, first, alone } = await threeImages()
    damage(await dataOf(store, first.layers[0]!))
    await store.close()
    const after = await open('two')
    expect(await namesIn(after)).toEqual([alone.name])
    expect(await new BlobStore(after).stat(first.layers[0]!)).toBeUndefined()
    expect(await new BlobStore(after).stat(first.layers[1]!)).toBeDefined()
    expect(warnings.sort()).toEqual([
      expect.stringMatching(`^image first:1 is gone: blob ${first.layers[0]!} had not reached the disk`),
      expect.stringMatching(`^image second:1 is gone: blob ${first.layers[0]!} had not reached the disk`),
    ])
    await after.close()
  })

  it.each([
    ['manifest', (image: { manifest: string; config: string }) => image.manifest],
    ['config', (image: { manifest: string; config: string }) => image.config],
  ])('drops an image with the record of its %s empty or zeros', async (_, blobOf) => {
    for (const damage of [zero, empty]) {
      const { store, second } = await threeImages()
      damage(file(keys.blob(blobOf(second) as never)))
      await store.close()
      warnings = []
      const after = await open(`two-${damage.name}`)
      expect(await namesIn(after)).toHaveLength(2)
      expect(warnings).toEqual([expect.stringContaining('image second:1 is gone: blob')])
      await after.close()
      rmSync(join(root, 'synced'))
      rmSync(join(root, 'objects'), { recursive: true })
    }
  })

  it('drops a name of zeros and keeps what it named for others', async () => {
    const { store, first, second } = await threeImages()
    zero(file(second.name))
    await store.close()
    const after = await open('two')
    expect(await namesIn(after)).not.toContain(second.name)
    expect(warnings).toEqual([expect.stringContaining('image second:1 is gone: its name')])
    expect(await new BlobStore(after).stat(first.layers[0]!)).toBeDefined()
    await after.close()
  })

  it('takes an image that a lost layer comes back to', async () => {
    const store = await open('one')
    const layer = randomBytes(10_000)
    const { layers } = await putImage(store, 'docker.io/library/again:1', [layer])
    zero(await dataOf(store, layers[0]!))
    await store.close()
    const after = await open('two')
    expect(await namesIn(after)).toEqual([])
    await putImage(after, 'docker.io/library/again:1', [layer])
    expect(await new BlobStore(after).read(layers[0]!, 1e6)).toEqual(layer)
    await after.close()
  })

  it('keeps all that is whole, and looks at it once a boot, before anyone else gets in', async () => {
    const { store, first } = await threeImages()
    const before = await namesIn(store)
    await store.close()
    const both = await Promise.all([open('two'), open('two'), open('two')])
    for (const after of both) {
      expect(await namesIn(after)).toEqual(before)
      expect((await new BlobStore(after).read(first.layers[0]!, 1e6)).length).toBe(300_000)
    }
    zero(await dataOf(both[0], first.layers[0]!))
    const late = await open('two')
    expect(await namesIn(late)).toEqual(before)
    expect(warnings).toEqual([])
    for (const after of [...both, late]) await after.close()
  })

  it('does not read what was on disk before: that is the scrub’s to find', async () => {
    const { store, first } = await threeImages()
    zero(await dataOf(store, first.layers[0]!))
    zero(file(keys.blob(first.layers[1]!)))
    await store.close()
    await new SyncMarkFile(root).write({ boot: 'one', syncedAt: Date.now() + 60_000 })
    const after = await open('two')
    expect(await namesIn(after)).toHaveLength(3)
    expect(warnings).toEqual([])
    await after.close()
  })

  it('reads everything where nothing is known: a store from elsewhere, or from before there was a mark', async () => {
    const { store, first } = await threeImages()
    zero(await dataOf(store, first.layers[0]!))
    await store.close()
    rmSync(join(root, 'synced'))
    const after = await open('one')
    expect(await namesIn(after)).toHaveLength(1)
    await after.close()
  })

  it('forgets indexes, which are made again, and leaves uploads that were still receiving to their keeper', async () => {
    const store = await open('one')
    await store.create(keys.index(`sha256:${'a'.repeat(64)}` as never), randomBytes(1000))
    const leases = new Leases(store)
    for (const id of ['receiving', 'received', 'whole', 'zeros']) {
      const run = await leases.create(id, { job: { kind: 'load', id }, request: {} })
      if (id !== 'receiving') await leases.update(run, (upload) => ({ ...upload, state: 'received' }))
    }
    await store.put(freshDataKey('receiving'), randomBytes(10))
    await store.put(freshDataKey('received'), randomBytes(10))
    zero(file(keys.lease('zeros')))
    await store.close()
    const after = await open('two')
    expect((await after.list('index/')).objects).toEqual([])
    expect((await after.list('uploads/')).objects.map(({ key }) => key)).toEqual(['uploads/receiving', 'uploads/whole'])
    expect(warnings.sort()).toEqual([
      expect.stringContaining('upload received is over'),
      expect.stringContaining('upload zeros is over'),
    ])
    await after.close()
  })

  it('begins anew when it was killed before its mark was written', async () => {
    const { store, first } = await threeImages()
    const damaged = await dataOf(store, first.layers[0]!)
    await store.close()
    const durable = new DurableFolder(root, { sync, boot: 'two' })
    await expect(durable.recover(['objects/'], () => Promise.reject(new Error('killed')))).rejects.toThrow('killed')
    zero(damaged)
    const after = await open('two')
    expect(await namesIn(after)).toHaveLength(1)
    await after.close()
  })

  it('looks at the same tail again when the power goes again before a sync', async () => {
    const { store, first } = await threeImages()
    await store.close()
    await (await open('two')).close()
    zero(await dataOf(store, first.layers[0]!))
    const after = await open('three')
    expect(await namesIn(after)).toHaveLength(1)
    await after.close()
  })

  it('marks a boot without a sync where there is nothing', async () => {
    const store = await open('one')
    expect(readlinkSync(join(root, 'synced'))).toMatch(/^one \d+$/)
    await store.close()
    await (await open('two')).close()
    expect(readlinkSync(join(root, 'synced'))).toMatch(/^two \d+$/)
    expect(syncs).toBe(0)
    expect(existsSync(join(root, 'objects'))).toBe(true)
  })
})
