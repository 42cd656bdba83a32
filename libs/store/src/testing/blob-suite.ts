import { randomBytes } from 'node:crypto'
import { digestOf, type Digest } from '@strata/oci'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import {
  MAX_PIECES,
  MAX_SERIES,
  withPiece,
  type Piece,
  type PieceSeries,
  type ProvenData,
} from '../blobs/blob-record.js'
import { BlobStore } from '../blobs/blobs.js'
import { Collector } from '../blobs/collector.js'
import { freshDataKey, keys, numberedDataKey, PREFIX } from '../keys.js'
import { Leases } from '../leases/leases.js'
import { lentChunks } from '../objects/lent-chunks.js'
import { listAll, type ObjectStore } from '../objects/object-store.js'
import { Records } from '../records.js'
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
        'deleteUnused, which reads all records': (on) => new BlobStore(on).deleteUnused('a'),
        'deleteUnused, which knows the digests': (on) => new BlobStore(on).deleteUnused('a', [digest]),
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

    describe('in pieces', () => {
      const sizes = [300_000, 1, 0, 70_000, 500_000]
      let whole: Buffer
      let parts: Buffer[]
      beforeEach(() => {
        parts = sizes.map((size) => randomBytes(size))
        whole = Buffer.concat(parts)
        digest = digestOf(whole)
      })
      const putPieces = async (lease: string): Promise<ProvenData & { pieces: Piece[] }> => {
        const pieces: Piece[] = []
        for (const part of parts) {
          const data = freshDataKey(lease)
          await store.put(data, part)
          pieces.push({ data, size: part.length })
        }
        return { pieces, size: whole.length }
      }
      const dataKeys = async () => {
        const found: string[] = []
        for await (const { key } of listAll(store, PREFIX.data)) found.push(key)
        return found.sort()
      }
      const keysOf = ({ pieces }: { pieces: Piece[] }) => pieces.map(({ data }) => data).sort()
      const rangeOf = async (start: number, end: number) => {
        const { size, body } = await blobs.open(digest, { start, end })
        expect(size).toBe(whole.length)
        return Buffer.concat((await body.toArray()) as Buffer[])
      }

      it('is read as one in a single object is, whole and in ranges across pieces', async () => {
        const mine = await putPieces('a')
        expect(await blobs.commit(digest, mine, 'a')).toBe('created')
        expect(await blobs.stat(digest)).toEqual({ ...mine, holders: ['a'] })
        expect((await blobs.read(digest, whole.length)).equals(whole)).toBe(true)
        await expect(blobs.read(digest, whole.length - 1)).rejects.toMatchObject({ code: 'limit_exceeded' })
        const { size, body } = await blobs.open(digest)
        expect(size).toBe(whole.length)
        expect(Buffer.concat((await body.toArray()) as Buffer[]).equals(whole)).toBe(true)
        const copies: Buffer[] = []
        for await (const chunk of lentChunks((await blobs.open(digest)).body)) copies.push(Buffer.from(chunk))
        expect(Buffer.concat(copies).equals(whole)).toBe(true)
        const edges = [0, 1, 299_999, 300_000, 300_001, 300_002, 370_001, whole.length - 1, whole.length]
        for (const start of edges)
          for (const end of [...edges, whole.length + 7])
            if (start <= end) expect((await rangeOf(start, end)).equals(whole.subarray(start, end))).toBe(true)
        expect((await rangeOf(whole.length + 5, whole.length + 9)).length).toBe(0)
        await expect(blobs.open(digest, { start: 2, end: 1 })).rejects.toMatchObject({ code: 'bad_request' })
        expect(blobs.localPath((await blobs.stat(digest))!)).toBeUndefined()
      })

      it('is stored once: the pieces of whoever comes later are deleted', async () => {
        const mine = await putPieces('a')
        expect(await blobs.commit(digest, mine, 'a')).toBe('created')
        expect(await blobs.commit(digest, mine, 'a')).toBe('created')
        expect(await blobs.commit(digest, await putPieces('b'), 'b')).toBe('existing')
        expect(await dataKeys()).toEqual(keysOf(mine))
        expect(await blobs.hold(digest, 'b')).toBe(true)
        expect((await blobs.stat(digest))?.holders).toEqual(['a', 'b'])
      })

      it('is kept and collected with all of its pieces', async () => {
        const mine = await putPieces('a')
        await blobs.commit(digest, mine, 'a')
        await putPieces('a')
        await leases.end('a')
        expect(await blobs.deleteUnused('a')).toEqual({ objects: sizes.length, bytes: whole.length })
        expect(await dataKeys()).toEqual(keysOf(mine))
        const collect = async (...referred: Digest[]) =>
          (
            await new Collector(store).collect({
              dryRun: false,
              references: async function* () {
                yield* await Promise.resolve(referred)
              },
            })
          ).report
        expect(await collect(digest)).toMatchObject({ blobs: { count: 0 }, data: { count: 0 } })
        expect((await blobs.read(digest, whole.length)).equals(whole)).toBe(true)
        expect(await collect()).toMatchObject({ blobs: { count: 1, bytes: whole.length }, data: { count: 0 } })
        expect(await dataKeys()).toEqual([])
        expect(await blobs.stat(digest)).toBeUndefined()
      })

      it('lacks one: it is not there, readers are told, and whoever brings the bytes mends it', async () => {
        const mine = await putPieces('a')
        await blobs.commit(digest, mine, 'a')
        const { body } = await blobs.open(digest, { start: 10, end: whole.length })
        body.destroy()
        await store.delete([mine.pieces[3]!.data])
        const reading = (await blobs.open(digest)).body.toArray()
        await expect(reading).rejects.toMatchObject({ code: 'store_unavailable' })
        await store.put(mine.pieces[3]!.data, Buffer.alloc(70_001))
        await expect((await blobs.open(digest)).body.toArray()).rejects.toMatchObject({ code: 'corrupt' })
        await store.delete([mine.pieces[3]!.data])
        expect(await blobs.hold(digest, 'b')).toBe(false)
        expect(await blobs.commit(digest, await putPieces('b'), 'b')).toBe('created')
        expect((await blobs.read(digest, whole.length)).equals(whole)).toBe(true)
        expect((await blobs.stat(digest))?.holders).toEqual(['a', 'b'])
      })

      it('has at most so many, of its own lease, as large as the blob', async () => {
        const lease = 'l'.repeat(64)
        await leases.create(lease, { job: { kind: 'push', id: lease }, request: {} })
        const data = freshDataKey(lease)
        await store.put(data, bytes)
        const many = (count: number) => Array.from({ length: count }, () => ({ data, size: bytes.length }))
        const size = MAX_SERIES * bytes.length
        const repeated = Buffer.concat(Array.from({ length: MAX_SERIES }, () => bytes))
        await expect(
          blobs.commit(digest, { pieces: many(MAX_SERIES + 1), size: size + bytes.length }, lease),
        ).rejects.toMatchObject({ code: 'limit_exceeded' })
        const first = numberedDataKey(lease, 1)
        await expect(
          blobs.commit(
            digest,
            { pieces: [{ data: first, size: 1, count: MAX_PIECES + 1 }], size: MAX_PIECES + 1 },
            lease,
          ),
        ).rejects.toMatchObject({ code: 'limit_exceeded' })
        for (const wrong of [
          { pieces: many(2), size: 2 * bytes.length + 1 },
          { pieces: [...many(1), { data: freshDataKey('a'), size: 5 }], size: bytes.length + 5 },
          { pieces: [], size: 0 },
        ])
          await expect(blobs.commit(digest, wrong, lease)).rejects.toMatchObject({ code: 'internal' })
        expect(await blobs.stat(digest)).toBeUndefined()
        digest = digestOf(repeated)
        expect(await blobs.commit(digest, { pieces: many(MAX_SERIES), size }, lease)).toBe('created')
        expect((await store.stat(keys.blob(digest)))!.size).toBeLessThan(160 * 1024)
        expect((await blobs.read(digest, size)).equals(repeated)).toBe(true)
      }, 60_000)

      it('of pieces of one size and numbered keys is named by few bytes, and read in ranges as any other', async () => {
        const sizes = [7, 3, 3, 3, 3, 3, 5]
        const whole = Buffer.from(Array.from({ length: 27 }, (_, at) => at))
        let series: PieceSeries[] = []
        for (let at = 0, from = 0; at < sizes.length; from += sizes[at++]!) {
          const data = numberedDataKey('a', at + 8)
          await store.put(data, whole.subarray(from, from + sizes[at]!))
          series = withPiece(series, { data, size: sizes[at]! })
        }
        expect(series).toMatchObject([{ size: 7 }, { size: 3, count: 5, data: numberedDataKey('a', 9) }, { size: 5 }])
        digest = digestOf(whole)
        expect(await blobs.commit(digest, { pieces: series, size: whole.length }, 'a')).toBe('created')
        expect((await blobs.read(digest, whole.length)).equals(whole)).toBe(true)
        const edges = [0, 6, 7, 8, 10, 12, 22, 23, 28]
        for (const start of edges)
          for (const end of edges.filter((edge) => edge >= start)) {
            const { body } = await blobs.open(digest, { start, end })
            expect(Buffer.concat((await body.toArray()) as Buffer[])).toEqual(whole.subarray(start, end))
          }
        await leases.end('a')
        expect(await blobs.deleteUnused('a')).toEqual({ objects: 0, bytes: 0 })
        await store.delete([numberedDataKey('a', 12)])
        expect(await blobs.storedBytes((await blobs.stat(digest))!)).toBeUndefined()
      })

      it('of many pieces is held by few calls, and not if one of them is gone', async () => {
        const pieces: Piece[] = []
        for (let at = 0; at < 100; at++) {
          const data = freshDataKey('a')
          await store.put(data, Buffer.from([at]))
          pieces.push({ data, size: 1 })
        }
        digest = digestOf(Buffer.from(Array.from({ length: 100 }, (_, at) => at)))
        await blobs.commit(digest, { pieces, size: 100 }, 'a')
        let calls = 0
        const counting = new Proxy(store, {
          get: (target, name) => {
            const member: unknown = Reflect.get(target, name, target)
            if (typeof member !== 'function') return member
            return (...args: unknown[]): unknown => {
              calls++
              return (member as (...args: unknown[]) => unknown).apply(target, args)
            }
          },
        })
        expect(await new BlobStore(counting).hold(digest, 'b')).toBe(true)
        expect(calls).toBeLessThan(10)
        await store.delete([pieces[57]!.data])
        expect(await blobs.hold(digest, 'b')).toBe(false)
      }, 60_000)

      it('of one piece is a blob in one object', async () => {
        const { data, size } = await put('a')
        await blobs.commit(digestOf(bytes), { pieces: [{ data, size }], size }, 'a')
        expect(await blobs.stat(digestOf(bytes))).toEqual({ data, size, holders: ['a'] })
      })

      it('is damage to a service that knows no pieces, and not another blob', async () => {
        await blobs.commit(digest, await putPieces('a'), 'a')
        const shape = z.object({ data: z.string(), size: z.number(), holders: z.array(z.string()) })
        await expect(new Records(store, shape, 'the record').find(keys.blob(digest))).rejects.toMatchObject({
          code: 'corrupt',
        })
      })
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
