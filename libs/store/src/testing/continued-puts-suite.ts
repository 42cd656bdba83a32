import { randomBytes } from 'node:crypto'
import { digestOf } from '@strata/oci'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { BlobStore } from '../blobs/blobs.js'
import { freshDataKey } from '../keys.js'
import { Leases } from '../leases/leases.js'
import {
  continuedPuts,
  MAX_CONTINUED_PARTS,
  MAX_RECORD_BYTES,
  type ContinuedPut,
  type ContinuedPuts,
  type Etag,
  type ObjectStore,
} from '../objects/object-store.js'
import type { StoreUnderTest } from './object-store-suite.js'

const MIB = 1024 * 1024
type Continuing = ObjectStore & ContinuedPuts

/**
 * The laws of ContinuedPuts as tests, for drivers that have the ability. `other` opens the store
 * again, as another process does.
 */
export function continuedPutsSuite(
  name: string,
  make: () => Promise<StoreUnderTest & { readonly other: () => Promise<ObjectStore> }>,
): void {
  describe(`continued puts on ${name}`, () => {
    let under: Awaited<ReturnType<typeof make>>
    let store: Continuing
    let other: Continuing
    let key: string
    beforeEach(async () => {
      under = await make()
      store = continuedPuts(under.store)!
      other = continuedPuts(await under.other())!
      key = freshDataKey('u')
    })
    afterEach(async () => {
      const left = await under.leftovers()
      await other.close()
      await under.dispose()
      expect(left).toEqual([])
    })
    /** As it comes back from a record. */
    const kept = (put: ContinuedPut | undefined): ContinuedPut => JSON.parse(JSON.stringify(put)) as ContinuedPut
    const bytesOf = async (size: number) => (await store.read(key, size))?.bytes
    async function* chunks(bytes: Buffer) {
      for (let at = 0; at < bytes.length; at += 700_000) yield await Promise.resolve(bytes.subarray(at, at + 700_000))
    }

    it('become one object, whoever appends and completes, and nobody sees it before', async () => {
      const pieces = [randomBytes(5 * MIB), randomBytes(21 * MIB + 5), randomBytes(8 * MIB), randomBytes(3)]
      const whole = Buffer.concat(pieces)
      let put = kept(await store.beginPut(key))
      for (const [at, piece] of pieces.entries()) {
        const process = at % 2 === 0 ? other : store
        put = kept(await process.appendPut(put, at === 1 ? chunks(piece) : piece))
        expect(put.parts.reduce((sum, { size }) => sum + size, 0)).toBe(
          pieces.slice(0, at + 1).reduce((sum, { length }) => sum + length, 0),
        )
      }
      expect(await store.stat(key)).toBeUndefined()
      expect(await under.leftovers()).toEqual([key])
      const info = await other.completePut(put)
      expect(info).toEqual(await store.stat(key))
      expect((await bytesOf(whole.length))?.equals(whole)).toBe(true)
      // Whoever did not get the answer asks again.
      expect(await store.completePut(put)).toEqual(info)
    })

    it('take nothing behind a part that is too small, and all before that stays good', async () => {
      const put = kept(await store.appendPut(await store.beginPut(key), randomBytes(store.minPartBytes)))
      expect((await store.appendPut(put, Buffer.alloc(0)))?.parts).toEqual(put.parts)
      const small = kept(await store.appendPut(put, Buffer.from('end')))
      await expect(store.appendPut(small, randomBytes(MIB))).rejects.toMatchObject({ code: 'bad_request' })
      expect(await store.completePut(small)).toMatchObject({ size: store.minPartBytes + 3 })
    })

    it('take so many parts that the state fits in a record, and are good as they were when more come', async () => {
      const begun = await store.beginPut(key)
      expect(store.roomIn(begun)).toBeGreaterThan(4 * 1024 * MIB)
      const part = { etag: 'x'.repeat(128) as Etag, size: 5 * MIB }
      const full = { ...begun, parts: Array.from({ length: MAX_CONTINUED_PARTS }, () => part) }
      expect(JSON.stringify(full).length).toBeLessThan(MAX_RECORD_BYTES)
      expect(store.roomIn(full)).toBe(0)
      await expect(store.appendPut(full, randomBytes(1))).rejects.toMatchObject({ code: 'limit_exceeded' })
      const nearly = { ...full, parts: full.parts.slice(1) }
      const more = async () => store.appendPut(nearly, chunks(randomBytes(store.roomIn(nearly) + 24 * MIB)))
      await expect(more()).rejects.toMatchObject({ code: 'limit_exceeded' })
      const put = kept(await other.appendPut(begun, randomBytes(5 * MIB)))
      expect(await other.completePut(put)).toMatchObject({ size: 5 * MIB })
    })

    it('have no object without parts', async () => {
      const put = await store.beginPut(key)
      await expect(store.completePut(put)).rejects.toMatchObject({ code: 'bad_request' })
      await store.abortPut(put)
    })

    it('with a state that is behind have just its parts, and the newer one comes too late', async () => {
      const [first, second] = [randomBytes(5 * MIB), randomBytes(5 * MIB)]
      const behind = kept(await store.appendPut(await store.beginPut(key), first))
      const newer = kept(await other.appendPut(behind, second))
      expect(await store.completePut(behind)).toMatchObject({ size: first.length })
      expect(await other.completePut(newer)).toBeUndefined()
      expect(await other.appendPut(newer, second)).toBeUndefined()
      expect((await bytesOf(first.length))?.equals(first)).toBe(true)
    })

    it('with a part that was sent twice have it once', async () => {
      const [first, second] = [randomBytes(5 * MIB), randomBytes(6 * MIB)]
      const begun = kept(await store.appendPut(await store.beginPut(key), first))
      await store.appendPut(begun, second)
      const put = kept(await other.appendPut(begun, second))
      expect(await store.completePut(put)).toMatchObject({ size: 11 * MIB })
      expect((await bytesOf(11 * MIB))?.equals(Buffer.concat([first, second]))).toBe(true)
    })

    it('to which two append at once have the bytes of one of them, and the other one is told', async () => {
      const first = randomBytes(5 * MIB)
      const begun = kept(await store.appendPut(await store.beginPut(key), first))
      const bytes = [randomBytes(20 * MIB), randomBytes(20 * MIB)]
      const puts = await Promise.all(bytes.map((each, at) => (at === 0 ? store : other).appendPut(begun, each)))
      const ends = [await store.completePut(kept(puts[0])), await other.completePut(kept(puts[1]))]
      const made = ends.filter((end) => end !== undefined)
      // Each of the parts is of whoever sent it last: if they came mixed, nobody's are whole.
      expect(made.length).toBeLessThanOrEqual(1)
      if (made.length === 0) await store.abortPut(begun)
      else {
        const winner = bytes[ends.findIndex((end) => end !== undefined)]!
        expect((await bytesOf(25 * MIB))?.equals(Buffer.concat([first, winner]))).toBe(true)
      }
    })

    it('that were aborted are gone', async () => {
      const put = kept(await store.appendPut(await store.beginPut(key), randomBytes(5 * MIB)))
      await other.abortPut(put)
      await store.abortPut(put)
      expect(await store.appendPut(put, randomBytes(5 * MIB))).toBeUndefined()
      expect(await store.completePut(put)).toBeUndefined()
      expect(await store.stat(key)).toBeUndefined()
    })

    it('whose source fails, or that are aborted in the middle of it, are as good as before', async () => {
      const bytes = randomBytes(20 * MIB)
      const put = kept(await store.appendPut(await store.beginPut(key), bytes))
      const fault = new Error('the client is gone')
      async function* failing() {
        yield await Promise.resolve(randomBytes(20 * MIB))
        throw fault
      }
      await expect(store.appendPut(put, failing())).rejects.toBe(fault)
      const abort = new AbortController()
      async function* endless() {
        for (let at = 0; ; at++) {
          if (at === 30) abort.abort()
          yield await Promise.resolve(bytes.subarray(0, MIB))
        }
      }
      await expect(store.appendPut(put, endless(), { signal: abort.signal })).rejects.toMatchObject({
        code: 'cancelled',
      })
      const after = kept(await other.appendPut(put, bytes))
      await other.completePut(after)
      expect((await bytesOf(40 * MIB))?.equals(Buffer.concat([bytes, bytes]))).toBe(true)
    })

    it('are a piece of a blob when they are whole, and go with their lease when they are not', async () => {
      const [blobs, leases] = [new BlobStore(store), new Leases(store)]
      await leases.create('u', { job: { kind: 'push', id: 'u' }, request: {} })
      const [large, small] = [randomBytes(6 * MIB), randomBytes(100)]
      const put = kept(await store.appendPut(await store.beginPut(key), large))
      expect(await other.completePut(put)).toBeDefined()
      const behind = freshDataKey('u')
      await store.put(behind, small)
      const digest = digestOf(Buffer.concat([large, small]))
      const pieces = [
        { data: key, size: large.length },
        { data: behind, size: small.length },
      ]
      expect(await blobs.commit(digest, { pieces, size: large.length + small.length }, 'u')).toBe('created')
      const half = kept(await store.appendPut(await store.beginPut(freshDataKey('u')), large))
      await leases.end('u')
      await blobs.deleteUnused('u')
      expect(await other.appendPut(half, large)).toBeUndefined()
      expect((await blobs.read(digest, 7 * MIB)).equals(Buffer.concat([large, small]))).toBe(true)
    })
  })
}
