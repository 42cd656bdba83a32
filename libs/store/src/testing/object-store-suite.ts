import { randomBytes, randomUUID } from 'node:crypto'
import { setImmediate as turn } from 'node:timers/promises'
import type { Readable } from 'node:stream'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { lentChunks } from '../objects/lent-chunks.js'
import { listAll, MAX_RECORD_BYTES, type ObjectStore } from '../objects/object-store.js'
import { Records } from '../records.js'

/** A store to be tested, of its own: empty, and nobody else writes into it. */
export interface StoreUnderTest {
  readonly store: ObjectStore
  /**
   * What lies behind the store and is no object: temporary files, unfinished multipart uploads.
   * Must be none after each test.
   */
  leftovers(): Promise<string[]>
  /** Closes the store and takes all of it away. */
  dispose(): Promise<void>
}

const MIB = 1024 * 1024

/** The laws of ObjectStore (its doc comment) as tests. Every driver passes them. */
export function objectStoreSuite(name: string, make: () => Promise<StoreUnderTest>): void {
  describe(`object store: ${name}`, () => {
    let under: StoreUnderTest
    let store: ObjectStore
    beforeEach(async () => {
      under = await make()
      store = under.store
    })
    afterEach(async () => {
      const left = await under.leftovers()
      await under.dispose()
      expect(left).toEqual([])
    })
    const bytesOf = async (key: string, range?: { start: number; end: number }) =>
      collect((await store.get(key, range))!.body)
    const keysOf = async (prefix: string) => (await gather(listAll(store, prefix))).map(({ key }) => key)
    const fresh = () => `data/u/${randomUUID()}`

    it('gives back what was put, whole and in ranges', async () => {
      const key = fresh()
      const bytes = randomBytes(300_000)
      const stored = await store.put(key, bytes)
      expect(stored.size).toBe(bytes.length)
      expect(await store.stat(key)).toEqual(stored)
      const read = await store.read(key, bytes.length)
      expect(read?.etag).toBe(stored.etag)
      // `toEqual` compares buffers byte by byte: too slow for large ones.
      expect(read?.bytes.equals(bytes)).toBe(true)
      expect((await bytesOf(key)).equals(bytes)).toBe(true)
      for (const [start, end] of [
        [0, 1],
        [0, 300_000],
        [1, 299_999],
        [299_999, 300_000],
        [299_000, 400_000],
        [5, 5],
        [300_000, 300_001],
        [400_000, 500_000],
        [0, 0],
      ] as const) {
        const part = await store.get(key, { start, end })
        expect(part?.size).toBe(bytes.length)
        expect((await collect(part!.body)).equals(bytes.subarray(start, end))).toBe(true)
      }
    })

    it('lends the bytes that it gives, whole and in a range, and may be left early', async () => {
      const key = fresh()
      const bytes = randomBytes(9 * MIB + 5)
      await store.put(key, bytes)
      for (const [start, end] of [
        [0, bytes.length],
        [MIB + 1, 8 * MIB],
        [9 * MIB, 20 * MIB],
        [10 * MIB, 20 * MIB],
      ] as const) {
        const copies: Buffer[] = []
        for await (const chunk of lentChunks((await store.get(key, { start, end }))!.body))
          copies.push(Buffer.from(chunk))
        expect(Buffer.concat(copies).equals(bytes.subarray(start, end))).toBe(true)
      }
      const { body } = (await store.get(key))!
      for await (const chunk of lentChunks(body)) {
        expect(chunk.equals(bytes.subarray(0, chunk.length))).toBe(true)
        break
      }
      expect(body.destroyed).toBe(true)
    })

    it('cuts ranges of small objects alike', async () => {
      const key = fresh()
      await store.put(key, Buffer.from('0123456789'))
      expect((await bytesOf(key, { start: 2, end: 5 })).toString()).toBe('234')
      expect((await bytesOf(key, { start: 8, end: 50 })).toString()).toBe('89')
      expect((await bytesOf(key, { start: 10, end: 50 })).length).toBe(0)
    })

    it('refuses ranges that are none', async () => {
      const key = fresh()
      await store.put(key, Buffer.from('abc'))
      for (const [start, end] of [
        [-1, 2],
        [2, 1],
        [0.5, 2],
        [0, Infinity],
        [NaN, 1],
      ] as const)
        await expect(store.get(key, { start, end })).rejects.toMatchObject({ code: 'bad_request' })
    })

    it('keeps empty objects', async () => {
      const [a, b, c] = [fresh(), fresh(), fresh()]
      await store.put(a, new Uint8Array())
      await store.put(b, chunks())
      await store.create(c, new Uint8Array())
      for (const key of [a, b, c]) {
        expect((await store.stat(key))?.size).toBe(0)
        expect((await bytesOf(key)).length).toBe(0)
        expect((await bytesOf(key, { start: 0, end: 10 })).length).toBe(0)
        expect((await store.read(key, 0))?.bytes.length).toBe(0)
      }
    })

    it('takes a long stream of odd chunks, as fast as it can write and no faster', async () => {
      const key = fresh()
      const piece = randomBytes(MIB)
      let given = 0
      async function* source() {
        for (let i = 0; i < 40; i++) {
          given++
          yield piece.subarray(0, MIB - i)
          await turn()
        }
      }
      const { size } = await store.put(key, source())
      expect(given).toBe(40)
      expect(size).toBe(40 * MIB - (39 * 40) / 2)
      const second = await bytesOf(key, { start: MIB, end: 2 * MIB - 1 })
      expect(second.equals(piece.subarray(0, MIB - 1))).toBe(true)
      expect(await bytesOf(key, { start: size - 5, end: size })).toEqual(piece.subarray(MIB - 39 - 5, MIB - 39))
    })

    it('is done with a chunk when it asks for the next: one memory serves all of them', async () => {
      const key = fresh()
      const lent = Buffer.from(new SharedArrayBuffer(300_000))
      async function* source() {
        for (let round = 0; round < 120; round++) {
          yield lent.fill(round)
          await turn()
        }
      }
      await store.put(key, source())
      const bytes = await bytesOf(key)
      expect(bytes.length).toBe(36_000_000)
      for (let round = 0; round < 120; round++)
        expect(
          bytes.subarray(round * 300_000, (round + 1) * 300_000).equals(Buffer.alloc(300_000, round)),
          `chunk ${round}`,
        ).toBe(true)
    })

    it('knows absent from empty', async () => {
      const key = fresh()
      expect(await store.stat(key)).toBeUndefined()
      expect(await store.get(key)).toBeUndefined()
      expect(await store.read(key, 10)).toBeUndefined()
      expect(await store.replace(key, Buffer.from('x'), '0'.repeat(32) as never)).toBeUndefined()
      expect(await store.list('nothing/here/')).toEqual({ objects: [] })
    })

    it('reads no more than it is allowed', async () => {
      const key = fresh()
      await store.put(key, randomBytes(100))
      await expect(store.read(key, 99)).rejects.toMatchObject({ code: 'limit_exceeded' })
      expect((await store.read(key, 100))?.bytes.length).toBe(100)
    })

    it('leaves nothing of a source that fails, and passes its error on', async () => {
      const key = fresh()
      const fault = new Error('the client is gone')
      async function* source() {
        yield randomBytes(20 * MIB)
        await turn()
        throw fault
      }
      await expect(store.put(key, source())).rejects.toBe(fault)
      expect(await store.stat(key)).toBeUndefined()
      expect(await keysOf('')).toEqual([])
    })

    it.each(['before', 'between two chunks', 'while the source is silent'])(
      'leaves nothing when aborted %s',
      async (when) => {
        const key = fresh()
        const abort = new AbortController()
        const begun = Promise.withResolvers<undefined>()
        const chunk = randomBytes(MIB)
        async function* source() {
          // More than a driver gathers before it sends any of it.
          for (let chunks = 0; chunks < 24; chunks++) yield chunk
          begun.resolve(undefined)
          if (when === 'while the source is silent') await new Promise(() => undefined)
          for (;;) {
            await turn()
            yield chunk
          }
        }
        if (when === 'before') abort.abort()
        const put = store.put(key, source(), { signal: abort.signal })
        const refused = expect(put).rejects.toMatchObject({ code: 'cancelled' })
        if (when !== 'before') await begun.promise
        abort.abort()
        await refused
        expect(await store.stat(key)).toBeUndefined()
        expect(await keysOf('')).toEqual([])
      },
    )

    it('tells an aborted source that it is over', async () => {
      const abort = new AbortController()
      const told = Promise.withResolvers<string>()
      async function* source() {
        try {
          for (;;) {
            yield randomBytes(1000)
            await turn()
            abort.abort()
          }
        } finally {
          told.resolve('told')
        }
      }
      await expect(store.put(fresh(), source(), { signal: abort.signal })).rejects.toMatchObject({ code: 'cancelled' })
      expect(await told.promise).toBe('told')
    })

    it('shows nothing of an object that is being written', async () => {
      const key = fresh()
      const [half, rest] = [Promise.withResolvers<undefined>(), Promise.withResolvers<undefined>()]
      async function* source() {
        yield randomBytes(MIB)
        half.resolve(undefined)
        await rest.promise
        yield randomBytes(MIB)
      }
      const put = store.put(key, source())
      await half.promise
      expect(await store.stat(key)).toBeUndefined()
      expect(await store.get(key)).toBeUndefined()
      expect(await keysOf('')).toEqual([])
      rest.resolve(undefined)
      expect((await put).size).toBe(2 * MIB)
      expect(await keysOf('')).toEqual([key])
    })

    it('creates if absent: of twenty at once one wins, and its bytes stand', async () => {
      const key = 'blobs/sha256/race'
      const tags = await Promise.all(
        Array.from({ length: 20 }, (_, i) => store.create(key, Buffer.from(`writer ${i}`))),
      )
      const winners = tags.flatMap((tag, i) => (tag === undefined ? [] : [i]))
      expect(winners).toHaveLength(1)
      const found = await store.read(key, 100)
      expect(found?.bytes.toString()).toBe(`writer ${winners[0]!}`)
      expect(found?.etag).toBe(tags[winners[0]!])
    })

    it('replaces if unchanged: of twenty with one tag one wins', async () => {
      const key = 'blobs/sha256/race'
      const etag = await store.create(key, Buffer.from('first'))
      const tags = await Promise.all(
        Array.from({ length: 20 }, (_, i) => store.replace(key, Buffer.from(`writer ${i}`), etag!)),
      )
      expect(tags.filter((tag) => tag !== undefined)).toHaveLength(1)
    })

    it("loses none of eight workers' ten increments each", async () => {
      const key = 'uploads/counter'
      await store.create(key, Buffer.from('0'))
      const worker = async () => {
        for (let done = 0; done < 10;) {
          const { bytes, etag } = (await store.read(key, 100))!
          if (await store.replace(key, Buffer.from(String(Number(bytes.toString()) + 1)), etag)) done++
        }
      }
      await Promise.all(Array.from({ length: 8 }, worker))
      expect((await store.read(key, 100))?.bytes.toString()).toBe('80')
    })

    it('replaces nothing that is gone', async () => {
      const key = fresh()
      const etag = await store.create(key, Buffer.from('a'))
      await store.delete([key])
      expect(await store.replace(key, Buffer.from('b'), etag!)).toBeUndefined()
      expect(await store.stat(key)).toBeUndefined()
    })

    it('lets a reader finish what it began, whatever becomes of the object', async () => {
      const key = fresh()
      const bytes = randomBytes(8 * MIB)
      await store.put(key, bytes)
      const body = (await store.get(key))!.body
      const reading = body[Symbol.asyncIterator]() as AsyncIterator<Buffer>
      const parts = [(await reading.next()).value as Buffer]
      await store.delete([key])
      const rest = await gather({ [Symbol.asyncIterator]: () => reading }).catch(() => undefined)
      if (rest) expect(Buffer.concat([...parts, ...rest]).equals(bytes)).toBe(true)
      expect(await store.stat(key)).toBeUndefined()
    })

    it('a record changed from A to B and back to A no longer matches its first tag', async () => {
      const records = new Records(store, z.object({ text: z.string() }), 'the test record')
      const key = 'images/a.b/c/_tags/x'
      await records.update(key, () => ({ text: 'A' }))
      const first = (await records.find(key))!
      await records.update(key, () => ({ text: 'B' }))
      await records.update(key, () => ({ text: 'A' }))
      expect((await records.find(key))?.value).toEqual(first.value)
      expect(await records.write(key, { text: 'stale' }, first)).toBeUndefined()
      expect(await records.retire(key, first)).toBe(false)
      expect(await records.read(key)).toEqual({ text: 'A' })
    })

    it('a retired record reads as absent and can be made again', async () => {
      const records = new Records(store, z.object({ text: z.string() }), 'the test record')
      const key = 'images/a.b/c/_tags/x'
      await records.update(key, () => ({ text: 'A' }))
      const seen = (await records.find(key))!
      expect(await records.retire(key, seen)).toBe(true)
      expect(await records.read(key)).toBeUndefined()
      expect(await gather(records.list('images/'))).toEqual([])
      expect(await records.write(key, { text: 'late' }, seen)).toBeUndefined()
      await records.update(key, (value) => ({ text: value ? 'there' : 'anew' }))
      expect((await gather(records.list('images/'))).map(({ value }) => value)).toEqual([{ text: 'anew' }])
    })

    it('lists by prefix in the order of bytes, with the tags that reading gives', async () => {
      const names = ['a', 'a-b/x', 'a.b', 'b/Z', 'b/a', 'b/a~', 'b/a/', 'b0', 'b/_x/y'].map(
        (name) => `data/${name.replace(/\/$/, '-')}`,
      )
      for (const key of names) await store.create(key, Buffer.from(key))
      const sorted = [...names].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
      expect(await keysOf('')).toEqual(sorted)
      for (const prefix of [
        'data/',
        'data/a',
        'data/b/',
        'data/b',
        'data/b/a',
        'data/a-b/x',
        'data/zz',
        'dat',
        'other/',
      ])
        expect(await keysOf(prefix)).toEqual(sorted.filter((key) => key.startsWith(prefix)))
      for await (const { key, size, etag } of listAll(store, 'data/'))
        expect({ size, etag }).toEqual(await store.stat(key))
    })

    it('lists in pages that miss and repeat nothing, also while objects go', async () => {
      const names = Array.from({ length: 25 }, (_, i) => `data/${String.fromCharCode(97 + (i % 3))}/${i}`).sort()
      for (const key of names) await store.create(key, Buffer.from(key))
      const seen: string[] = []
      for (let after: string | undefined; ;) {
        const page = await store.list('data/', { limit: 7, ...(after === undefined ? {} : { after }) })
        expect(page.objects.length).toBeLessThanOrEqual(7)
        seen.push(...page.objects.map(({ key }) => key))
        if (page.next === undefined) break
        await store.delete([page.objects[0]!.key])
        after = page.next
      }
      expect(seen).toEqual(names)
      expect((await store.list('data/', { after: 'data/b/1' })).objects.map(({ key }) => key)).not.toContain('data/b/1')
      expect((await store.list('data/', { after: 'data/~' })).objects).toEqual([])
    })

    it('lists in pages what stays, while others come and go', async () => {
      const prefix = 'images/h.example/a/_tags/'
      const stays = Array.from({ length: 40 }, (_, i) => `${prefix}v${String(i).padStart(3, '0')}`)
      for (const key of stays) await store.create(key, Buffer.from(key))
      let isOver = false
      const writer = async (of: number) => {
        for (let i = 0; i < 25; i++) {
          const keys = [`${prefix}v${String(i).padStart(3, '0')}-${of}`, `data/u${of}-${i}/x`]
          for (const key of keys) await store.create(key, Buffer.from(key))
          expect((await store.list(keys[0]!)).objects.map(({ key }) => key)).toEqual([keys[0]])
          await store.delete(keys)
          expect((await store.list(keys[0]!)).objects).toEqual([])
        }
      }
      const reader = async () => {
        do {
          const seen: string[] = []
          for (let after: string | undefined; ;) {
            const page = await store.list(prefix, { limit: 7, ...(after === undefined ? {} : { after }) })
            seen.push(...page.objects.map(({ key }) => key))
            if (page.next === undefined) break
            after = page.next
          }
          expect(seen).toEqual([...seen].sort())
          expect(seen.filter((key) => stays.includes(key))).toEqual(stays)
        } while (!isOver)
      }
      await Promise.all([Promise.all([1, 2, 3, 4].map(writer)).finally(() => (isOver = true)), reader()])
    })

    it('takes every character that a key may have', async () => {
      const odd = [
        "data/u/._:@+=,!'()*~-",
        'data/...',
        'data/.hidden',
        'data/-',
        `data/${'n'.repeat(255)}`,
        'images/h:5000/a/_tags/V1.0-x_y',
      ]
      for (const key of odd) await store.put(key, Buffer.from(key))
      for (const key of odd) expect((await store.read(key, 2000))?.bytes.toString()).toBe(key)
      expect((await keysOf('')).sort()).toEqual([...odd].sort())
      await store.delete(odd)
      expect(await keysOf('')).toEqual([])
    })

    it('refuses hostile keys everywhere', async () => {
      const hostile = [
        '',
        '/',
        'a/',
        '/etc/passwd',
        '../x',
        'a/../b',
        'a/./b',
        '.',
        '..',
        'a//b',
        'a\\b',
        'a\0b',
        'a b',
        'a\nb',
        'ä',
        'a%2fb',
        'a?b',
        'a#b',
        'x'.repeat(256),
        'a/'.repeat(600) + 'a',
      ]
      for (const key of hostile) {
        const refused = (work: Promise<unknown>) =>
          expect(work, JSON.stringify(key)).rejects.toMatchObject({ code: 'bad_request' })
        await refused(store.put(key, Buffer.from('x')))
        await refused(store.get(key))
        await refused(store.read(key, 1))
        await refused(store.stat(key))
        await refused(store.create(key, Buffer.from('x')))
        await refused(store.replace(key, Buffer.from('x'), 'x' as never))
        await refused(store.delete([key]))
      }
      for (const prefix of ['/', '../', 'a/../', 'a//', '\0', './'])
        await expect(store.list(prefix)).rejects.toMatchObject({ code: 'bad_request' })
      expect(await keysOf('')).toEqual([])
    })

    it('deletes many, and again', async () => {
      const names = Array.from({ length: 30 }, (_, i) => `data/u/${i}`)
      for (const key of names) await store.put(key, Buffer.from(key))
      await store.delete(names.slice(0, 20))
      await store.delete([...names.slice(0, 25), 'data/u/never', 'data/none/never'])
      expect(await keysOf('data/')).toEqual(names.slice(25).sort())
      await store.delete([])
    })

    it('takes a folder of keys that is emptied and filled at once', async () => {
      await Promise.all(
        Array.from({ length: 8 }, async (_, worker) => {
          for (let i = 0; i < 10; i++) {
            const key = `data/u/${worker}-${i}`
            await store.put(key, Buffer.from(key))
            await store.delete([key])
          }
        }),
      )
      expect(await keysOf('')).toEqual([])
    })

    it('compares records up to the largest by what they hold', async () => {
      const key = 'uploads/large'
      const [a, b] = [randomBytes(MAX_RECORD_BYTES), randomBytes(MAX_RECORD_BYTES)]
      const first = (await store.create(key, a))!
      const second = (await store.replace(key, b, first))!
      expect(second).not.toBe(first)
      expect(await store.replace(key, a, first)).toBeUndefined()
      expect(await store.replace(key, a, second)).toBeDefined()
    })
  })
}

async function gather<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}

async function collect(body: Readable): Promise<Buffer> {
  return Buffer.concat((await body.toArray()) as Buffer[])
}

async function* chunks(...parts: Uint8Array[]): AsyncGenerator<Uint8Array> {
  await turn()
  yield* parts
}
