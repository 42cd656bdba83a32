import { randomBytes } from 'node:crypto'
import { encodeListing, type ArchiveEntry } from '@strata/archive'
import { listArchive, makeArchive, makeLayer } from '@strata/archive/testing'
import { Images } from '@strata/images'
import { StrataError } from '@strata/base'
import { digestOf, type DiffId } from '@strata/oci'
import { LostRun, type JobContext, type JobName, type NewJob } from '@strata/queue'
import { BlobStore, keys, Leases, listAll, piecesOf, type ObjectStore } from '@strata/store'
import { temporaryStore, withoutAbilities } from '@strata/store/testing'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Loader } from './loader.js'

const upload = 'u'
const LARGE = 1024 * 1024
const load = { root: upload, upload, prepare: false }

for (const [name, strip] of [
  ['a folder', (store: ObjectStore) => store],
  ['a store without files', withoutAbilities],
] as const) {
  describe(`a load from ${name}`, () => {
    let store: ObjectStore
    let dispose: () => Promise<void>
    let blobs: BlobStore
    let leases: Leases
    let loader: Loader
    let children: NewJob<JobName>[]
    let leftWhenItFailed: string[]
    let small: Buffer
    let large: Buffer

    const context = (): JobContext => ({
      id: upload,
      queue: 'ingest',
      parent: undefined,
      asked: 0,
      resumed: false,
      lock: { key: '', token: '' },
      signal: new AbortController().signal,
      progress: () => Promise.resolve(),
      assertOwned: () => Promise.resolve(),
      again: (reason) => Promise.reject(reason),
      complete: () => Promise.resolve(),
      fail: async () => {
        leftWhenItFailed = await dataKeys()
      },
      children: (jobs) => Promise.resolve(void children.push(...jobs)),
      startChildren: () => Promise.resolve(),
      giveBack: () => Promise.reject(new Error('given back')),
    })
    const dataKeys = async (): Promise<string[]> => {
      const found: string[] = []
      for await (const { key } of listAll(store, keys.dataOf(upload))) found.push(key)
      return found
    }

    /** As an intake leaves it: what is large has an object of its own, the rest is one. */
    async function takeIn(tar: Buffer): Promise<void> {
      const run = await leases.create(upload, { job: { kind: 'load', id: upload }, request: {} })
      const gathered: Buffer[] = []
      let end = 0
      const entries: ArchiveEntry[] = []
      for (const [number, entry] of listArchive(tar).listing.entries.entries()) {
        if (!entry.at) entries.push(entry)
        else {
          const bytes = tar.subarray(entry.at.offset, entry.at.offset + entry.size)
          const isLarge = bytes.length >= LARGE
          entries.push({
            ...entry,
            at: { object: keys.data(upload, isLarge ? String(number) : 'small'), offset: isLarge ? 0 : end },
          })
          if (isLarge) await store.put(keys.data(upload, String(number)), bytes)
          else {
            gathered.push(bytes)
            end += bytes.length
          }
          if (entry.diffId) await store.create(keys.index(entry.diffId), Buffer.from('an index'))
        }
      }
      await store.put(keys.data(upload, 'small'), Buffer.concat(gathered))
      await store.put(keys.data(upload, 'listing'), encodeListing({ entries }))
      await leases.update(run, (record) => ({ ...record, state: 'received', listing: keys.data(upload, 'listing') }))
    }

    beforeEach(async () => {
      const opened = await temporaryStore()
      ;({ dispose } = opened)
      store = strip(opened.store)
      blobs = new BlobStore(store)
      leases = new Leases(store)
      loader = new Loader(store, blobs, leases, new Images(store))
      children = []
      leftWhenItFailed = []
      small = await makeLayer(new Map([['a', { content: 'small' }]]))
      large = await makeLayer(new Map([['b', { content: randomBytes(2 * LARGE) }]]))
    })
    afterEach(() => dispose())

    it('keeps large blobs where they lie, cuts small ones out, and leaves nothing else', async () => {
      await takeIn(await makeArchive({ names: ['one/two:3'], layers: [small, large] }))
      const { images } = await loader.load(load, context())
      expect(images).toMatchObject([{ names: ['one/two:3'], layers: 2 }])
      expect(children).toEqual([])
      const manifest = images[0]!.digest
      const config = images[0]!.id
      const kept: string[] = []
      for (const digest of [manifest, config, digestOf(small), digestOf(large)]) {
        kept.push(piecesOf((await blobs.stat(digest))!)[0]!.data)
        await blobs.read(digest, 8 * LARGE)
      }
      expect(piecesOf((await blobs.stat(digestOf(large)))!)[0]!.data).toMatch(/^data\/u\/\d+$/)
      expect((await blobs.stat(digestOf(large)))?.diffId).toBe(digestOf(large))
      expect(await dataKeys()).toEqual(kept.sort())
      expect(await leases.get(upload)).toBeUndefined()
      expect((await new Images(store).resolve('one/two:3')).digest).toBe(manifest)
    })

    it('reads the record of a new plain layer three times', async () => {
      await takeIn(await makeArchive({ names: ['x:1'], layers: [small, large] }))
      const read = vi.spyOn(store, 'read')
      await loader.load(load, context())
      // Whether it is there, what is there when it is committed, the hold of the name, and whether
      // bytes of the upload are its own.
      for (const layer of [small, large]) {
        const record = keys.blob(digestOf(layer))
        expect(read.mock.calls.filter(([key]) => key === record)).toHaveLength(3)
      }
    })

    it('that is run again when its names are set says the same, and sets none', async () => {
      await takeIn(await makeArchive({ names: ['x:1'], layers: [small, large] }))
      let told: unknown
      const diesAnswering = {
        ...context(),
        complete: (result: unknown) => {
          told = result
          return Promise.reject(new LostRun('the job'))
        },
      }
      await expect(loader.load(load, diesAnswering)).rejects.toBeInstanceOf(LostRun)
      expect((await leases.get(upload))?.state).toBe('named')
      const images = new Images(store)
      await images.remove({ ref: 'x:1', force: false, inUse: () => Promise.resolve(false) })
      const complete = vi.fn(() => Promise.resolve())
      expect(await loader.load(load, { ...context(), complete })).toEqual(told)
      expect(complete).toHaveBeenCalledExactlyOnceWith(told)
      expect((await images.page(1_000)).images).toEqual([])
      expect(await leases.get(upload)).toBeUndefined()
    })

    it('that has lost its job ends nothing', async () => {
      await takeIn(await makeArchive({ names: ['x:1'], layers: [small, large] }))
      const failed = vi.fn()
      const lost = { ...context(), assertOwned: () => Promise.reject(new LostRun('the job')), fail: failed }
      await expect(loader.load(load, lost)).rejects.toBeInstanceOf(LostRun)
      // Found out only when it fails: by then another run has the job.
      const owned = vi.fn().mockResolvedValueOnce(undefined).mockRejectedValue(new LostRun('the job'))
      const late = {
        ...context(),
        assertOwned: owned,
        children: () => Promise.reject(new StrataError('digest_mismatch', 'no')),
        fail: failed,
      }
      await expect(loader.load(load, late)).rejects.toBeInstanceOf(LostRun)
      expect(failed).not.toHaveBeenCalled()
      expect((await leases.get(upload))?.state).toBe('received')
      expect((await loader.load(load, context())).images).toMatchObject([{ names: ['x:1'] }])
    })

    it('whose upload another run took over begins again, if it has the job', async () => {
      await takeIn(await makeArchive({ names: ['x:1'], layers: [small, large] }))
      const again = vi.fn((reason: StrataError) => Promise.reject(reason))
      const superseded = {
        ...context(),
        progress: () => leases.begin(upload).then(() => undefined),
        again,
        fail: vi.fn(),
      }
      await expect(loader.load(load, superseded)).rejects.toMatchObject({ code: 'upload_interrupted' })
      expect(again).toHaveBeenCalledOnce()
      expect(superseded.fail).not.toHaveBeenCalled()
      expect(await leases.get(upload)).toBeDefined()
    })

    it('asks for a layer that is not proven', async () => {
      const other = digestOf(small) as DiffId
      const archive = await makeArchive({ names: ['x:1'], layers: [small, large] })
      await takeIn(archive)
      await store.delete([keys.index(other)])
      await loader.load(load, context())
      expect(children).toMatchObject([
        { name: 'extract', data: { layer: { digest: other, diffId: other, size: small.length } } },
      ])
    })

    it('ends with what the store says before what it brought goes, and nothing of it stays', async () => {
      await takeIn(await makeArchive({ names: ['x:1'], layers: [small, large] }))
      const failing: ObjectStore = {
        ...withoutAbilities(store),
        put: () => Promise.reject(new StrataError('storage_full', 'the bucket is full')),
      }
      const bad = new Loader(failing, new BlobStore(failing), new Leases(failing), new Images(failing))
      await expect(bad.load(load, context())).rejects.toMatchObject({
        code: 'storage_full',
        message: 'the bucket is full',
      })
      expect(leftWhenItFailed).not.toEqual([])
      expect(await dataKeys()).toEqual([])
      expect(await leases.get(upload)).toBeUndefined()
      for await (const { key } of listAll(store, 'images/')) expect.unreachable(key)
      await expect(loader.load(load, context())).rejects.toMatchObject({ code: 'upload_interrupted' })
    })
  })
}
