import { randomBytes } from 'node:crypto'
import { digestOf, type Digest } from '@strata/oci'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { BlobStore, type ProvenData } from '../blobs/blobs.js'
import { Collector } from '../blobs/collector.js'
import { freshDataKey, keys } from '../keys.js'
import { Leases } from '../leases/leases.js'
import type { ObjectStore } from '../objects/object-store.js'
import type { StoreUnderTest } from './object-store-suite.js'
import { stopAt } from './stop-at.js'

/** The laws of BlobStore between several processes as tests, on any driver. */
export function blobSuite(name: string, make: () => Promise<StoreUnderTest>): void {
  describe(`blobs on ${name}`, () => {
    let under: StoreUnderTest
    let store: ObjectStore
    let blobs: BlobStore
    let leases: Leases
    let bytes: Buffer
    let digest: Digest
    beforeEach(async () => {
      under = await make()
      store = under.store
      blobs = new BlobStore(store)
      leases = new Leases(store)
      for (const id of ['a', 'b']) await leases.create(id, { job: { kind: 'load', id }, request: {} })
      bytes = randomBytes(1_000)
      digest = digestOf(bytes)
    })
    afterEach(() => under.dispose())

    const put = async (lease: string): Promise<ProvenData & { data: string }> => {
      const data = freshDataKey(lease)
      await store.put(data, bytes)
      return { data, size: bytes.length }
    }
    /** As one does who needs the blob and has its bytes. */
    const need = async (lease: string): Promise<void> => {
      if (!(await blobs.hold(digest, lease))) await blobs.add(digest, bytes, lease)
    }
    const gone = { code: 'upload_interrupted' }

    describe('an owner that stands still while its lease is ended and its bytes are deleted', () => {
      const deleters: Readonly<Record<string, (on: ObjectStore) => Promise<unknown>>> = {
        'a sweep that reads all records': (on) => new BlobStore(on).deleteUnused('a'),
        'a sweep that knows the digests': (on) => new BlobStore(on).deleteUnused('a', [digest]),
        'a collection': (on) =>
          new Collector(on).collect({
            dryRun: false,
            references: async function* () {
              yield* await Promise.resolve([])
            },
          }),
      }
      it.each(Object.keys(deleters))(
        'before it writes the record gives nobody a blob without bytes: %s',
        async (which) => {
          const mine = await put('a')
          const atRecord = stopAt(store, ['create', 'replace'], keys.blob(digest))
          const atLease = stopAt(atRecord.store, ['read'], keys.lease('a'))
          const committing = new BlobStore(atLease.store).commit(digest, mine, 'a')
          await atRecord.stop.reached
          await leases.end('a')
          const atBytes = stopAt(store, ['delete'], mine.data)
          const deleting = deleters[which]!(atBytes.store)
          await atBytes.stop.reached
          atRecord.stop.goOn()
          await atLease.stop.reached
          await need('b')
          atBytes.stop.goOn()
          await deleting
          atLease.stop.goOn()
          await expect(committing).rejects.toMatchObject(gone)
          expect(await blobs.read(digest, bytes.length)).toEqual(bytes)
          expect((await blobs.stat(digest))?.holders).toContain('b')
        },
      )

      it.each(Object.keys(deleters))(
        'before it makes the record count takes nothing from others: %s',
        async (which) => {
          const mine = await put('a')
          const atRecord = stopAt(store, ['replace'], keys.blob(digest))
          const committing = new BlobStore(atRecord.store).commit(digest, mine, 'a')
          await atRecord.stop.reached
          await leases.end('a')
          await need('b')
          await deleters[which]!(store)
          atRecord.stop.goOn()
          await expect(committing).rejects.toMatchObject(gone)
          expect(await blobs.read(digest, bytes.length)).toEqual(bytes)
          expect(await store.stat(mine.data)).toBeUndefined()
        },
      )
    })

    it('counts a record whose maker lives, also if the maker has not come to say so', async () => {
      const mine = await put('a')
      const atRecord = stopAt(store, ['replace'], keys.blob(digest))
      const committing = new BlobStore(atRecord.store).commit(digest, mine, 'a')
      await atRecord.stop.reached
      expect(await blobs.hold(digest, 'b')).toBe(true)
      atRecord.stop.goOn()
      expect(await committing).toBe('created')
      await leases.end('a')
      expect(await blobs.deleteUnused('a')).toEqual({ objects: 0, bytes: 0 })
      expect(await blobs.stat(digest)).toEqual({ data: mine.data, size: bytes.length, holders: ['a', 'b'] })
    })

    it('lets the next run of an owner finish what one that died had begun', async () => {
      const mine = await put('a')
      const atRecord = stopAt(store, ['replace'], keys.blob(digest))
      void new BlobStore(atRecord.store).commit(digest, mine, 'a').catch(() => undefined)
      await atRecord.stop.reached
      expect(await blobs.commit(digest, mine, 'a')).toBe('created')
      expect(await blobs.stat(digest)).toEqual({ data: mine.data, size: bytes.length, holders: ['a'] })
    })
  })
}
