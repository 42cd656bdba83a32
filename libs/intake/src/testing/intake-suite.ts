import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { PassThrough, Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { decodeListing, type ArchiveEntry } from '@strata/archive'
import { concat, file, FIXTURES, header, openFixture, pax, paxHeader, ZEROS } from '@strata/archive/testing'
import { StrataError } from '@strata/base'
import { keys, listAll, type ObjectStore } from '@strata/store'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createIntake, type Intake, type IntakeProgress, type ReceiveOptions } from '../index.js'

const sha256 = (bytes: Uint8Array): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`
const cut = (bytes: Buffer, piece: () => number): Readable =>
  Readable.from(
    (function* () {
      for (let at = 0; at < bytes.length;) yield bytes.subarray(at, (at += piece()))
    })(),
  )
const whole = (bytes: Buffer): Readable => cut(bytes, () => 65_536)
const layer = concat(
  header({ name: 'etc/', type: '5' }),
  file('etc/hosts', 'localhost'),
  file('big', randomBytes(3_000_000)),
  ZEROS,
)
const notLayer = concat(file('a', 'x'), Buffer.alloc(512, 'damaged'), ZEROS)
const archive = concat(
  file('manifest.json', '[]'),
  file('layer.tar', layer),
  header({ name: 'link', type: '2', link: 'layer.tar' }),
  file('empty', ''),
  header({ name: 'hard', type: '1', link: 'manifest.json' }),
  file('packed', gzipSync(layer)),
  file('packed.zst', zstdCompressSync(layer)),
  file('broken', notLayer),
  file('zeros', ZEROS),
  file('random', randomBytes(1_500_000)),
  header({ name: 'd/', type: '5' }),
  ZEROS,
)
const gzipped = gzipSync(archive)
const zstandard = zstdCompressSync(archive)
const bomb = gzipSync(Buffer.alloc(50_000_000))
const largeBomb = zstdCompressSync(Buffer.alloc(100_000_000))

/**
 * What an intake promises, whatever the store. The store is the suite's alone, and `dispose` takes
 * it away.
 */
export function intakeSuite(
  name: string,
  open: () => Promise<{ store: ObjectStore; dispose: () => Promise<void> }>,
): void {
  describe(`an intake into ${name}`, () => {
    let store: ObjectStore
    let dispose: () => Promise<void>
    let intake: Intake
    beforeAll(async () => {
      ;({ store, dispose } = await open())
      intake = createIntake({ store })
    })
    afterAll(async () => {
      await intake.close()
      await dispose()
    })

    async function dataKeys(upload: string): Promise<string[]> {
      const found: string[] = []
      for await (const { key } of listAll(store, keys.dataOf(upload))) found.push(key)
      return found
    }

    async function receive(body: Readable, options: Partial<ReceiveOptions> = {}) {
      const upload = randomUUID()
      const received = await intake.receive(body, { upload, ...options })
      const { entries } = decodeListing((await store.read(received.listing, 2 ** 30))!.bytes)
      return { upload, received, entries }
    }
    async function contentOf(entry: ArchiveEntry): Promise<Buffer> {
      const { object, offset } = entry.at!
      return buffer((await store.get(object, { start: offset, end: offset + entry.size }))!.body)
    }
    async function refused(body: Readable, options: Partial<ReceiveOptions> = {}): Promise<string> {
      const upload = randomUUID()
      const error: unknown = await intake.receive(body, { upload, ...options }).then(
        () => ({ code: 'no error' }),
        (caught: unknown) => caught,
      )
      expect(await dataKeys(upload)).toEqual([])
      return (error as { code: string }).code
    }

    describe('receive', () => {
      it('knows a blob by its sha512 where its name says so, and its tar by its sha256', async () => {
        const hex = (bytes: Uint8Array): string => createHash('sha512').update(bytes).digest('hex')
        const names = [
          `blobs/sha512/${hex(layer)}`,
          `./blobs/sha512/${hex(ZEROS)}`,
          `blobs/sha512/${hex(layer)}.txt`,
          `other/blobs/sha512/${hex(layer)}`,
        ]
        const named = (name: string, content: Uint8Array): Buffer =>
          concat(paxHeader(pax('path', name)), file('x', content))
        const { entries } = await receive(
          whole(concat(...names.map((name, at) => named(name, [layer, ZEROS][at] ?? Buffer.from('x'))), ZEROS)),
        )
        expect(entries).toMatchObject([
          { digest: `sha512:${hex(layer)}`, diffId: sha256(layer) },
          { digest: `sha512:${hex(ZEROS)}`, diffId: sha256(ZEROS) },
          { digest: sha256(Buffer.from('x')) },
          { digest: sha256(Buffer.from('x')) },
        ])
      })

      it('lists, places, hashes and indexes', async () => {
        const seen: IntakeProgress[] = []
        const { entries, received, upload } = await receive(whole(archive), {
          onProgress: (progress) => void seen.push(progress),
        })
        expect(received).toEqual({ listing: keys.data(upload, 'listing'), entries: 11, bytes: archive.length })
        expect(seen.at(-1)).toEqual({ entries: 11, bytes: archive.length })
        const digest = sha256(layer)
        expect(entries).toMatchObject([
          { name: 'manifest.json', type: 'file', size: 2, digest: sha256(Buffer.from('[]')), compression: 'none' },
          { name: 'layer.tar', type: 'file', size: layer.length, digest, diffId: digest, compression: 'none' },
          { name: 'link', type: 'symlink', link: 'layer.tar' },
          { name: 'empty', size: 0, digest: sha256(Buffer.alloc(0)) },
          { name: 'hard', type: 'hardlink', link: 'manifest.json' },
          { name: 'packed', compression: 'gzip' },
          { name: 'packed.zst', compression: 'zstd' },
          { name: 'broken', layerError: { code: 'layer_invalid' } },
          { name: 'zeros', diffId: sha256(ZEROS) },
          { name: 'random', size: 1_500_000 },
          { name: 'd/', type: 'directory' },
        ])
        expect(entries.filter((entry) => entry.diffId)).toHaveLength(2)
        for (const entry of entries)
          if (entry.type === 'file') expect(sha256(await contentOf(entry)), entry.name).toBe(entry.digest)
        expect((await store.stat(`index/v1/${digest.slice(7)}`))?.size).toBeGreaterThan(0)
      })

      it('comes to the same however the body is cut and packed', async () => {
        const strip = (entries: ArchiveEntry[]) =>
          entries.map(({ at, ...rest }) => ({ ...rest, at: at && { ...at, object: at.object.split('/').at(-1) } }))
        const expected = strip((await receive(whole(archive))).entries)
        const random = () => 1 + Math.floor(Math.random() * 200_000)
        for (const body of [
          cut(archive, random),
          cut(archive, random),
          cut(archive, () => archive.length),
          whole(gzipped),
          cut(gzipped, random),
          whole(zstandard),
          cut(zstandard, random),
        ]) {
          expect(strip((await receive(body)).entries)).toEqual(expected)
        }
        const start = archive.subarray(0, 1024)
        expect((await receive(cut(start, () => 1))).entries).toHaveLength(1)
        expect((await receive(cut(gzipSync(start), () => 1))).entries).toHaveLength(1)
      })

      it('keeps a whole body as it came, and indexes a plain tar', async () => {
        const small = concat(file('a', 'x'), ZEROS)
        for (const body of [
          layer,
          small,
          ZEROS,
          gzipSync(layer),
          zstdCompressSync(small),
          notLayer,
          randomBytes(100),
          randomBytes(3_000_000),
          Buffer.from('x'),
        ]) {
          for (const pieces of [whole(body), cut(body, () => 1 + Math.floor(Math.random() * 100_000))]) {
            const { entries, received, upload } = await receive(pieces, { whole: true })
            expect(received).toMatchObject({ entries: 1, bytes: body.length })
            expect(entries).toMatchObject([
              {
                name: 'layer.tar',
                type: 'file',
                size: body.length,
                digest: sha256(body),
                at: { object: keys.data(upload, '0'), offset: 0 },
              },
            ])
            expect((await contentOf(entries[0]!)).equals(body)).toBe(true)
            expect(entries[0]!.diffId).toBe([layer, small, ZEROS].includes(body) ? sha256(body) : undefined)
          }
        }
        expect(await refused(Readable.from([]), { whole: true })).toBe('archive_invalid')
        expect(await refused(whole(gzipSync(layer)), { whole: true, limits: { bytes: 1_000_000 } })).toBe(
          'limit_exceeded',
        )
      })

      it('goes on past the end of the tar, and runs many at once', async () => {
        const bodies = Array.from({ length: 9 }, () => whole(concat(archive, randomBytes(3_000_000))))
        for (const { entries } of await Promise.all(bodies.map((body) => receive(body))))
          expect(entries).toHaveLength(11)
      })

      it('has no reader for a body that does not come, and goes on where it was', async () => {
        const single = createIntake({ store, readers: 1 })
        const small = concat(file('a', 'x'), ZEROS)
        // Wherever the body falls silent, another one is taken in before it goes on.
        async function* haltingly(bytes: Buffer, places: readonly number[]): AsyncGenerator<Buffer> {
          let from = 0
          for (const at of [...places].sort((a, b) => a - b)) {
            yield bytes.subarray(from, at)
            from = at
            expect((await single.receive(whole(small), { upload: randomUUID() })).entries).toBe(1)
          }
          yield bytes.subarray(from)
        }
        const places = (bytes: Buffer): number[] => [
          1,
          600_000,
          ...Array.from({ length: 3 }, () => Math.floor(Math.random() * bytes.length)),
        ]
        const facts = (entries: ArchiveEntry[]) =>
          entries.map(({ name, digest, size, diffId }) => ({ name, digest, size, diffId }))
        const expected = facts((await receive(whole(archive))).entries)
        const taken = await Promise.all(
          [archive, gzipped, archive, zstandard].map(async (bytes) => {
            const upload = randomUUID()
            const { listing } = await single.receive(Readable.from(haltingly(bytes, places(bytes))), { upload })
            return decodeListing((await store.read(listing, 2 ** 30))!.bytes).entries
          }),
        )
        for (const entries of taken) {
          expect(facts(entries)).toEqual(expected)
          for (const entry of entries)
            if (entry.type === 'file') expect(sha256(await contentOf(entry)), entry.name).toBe(entry.digest)
        }
        await single.close()
      })

      for (const name of FIXTURES) {
        it(`takes ${name}`, async () => {
          const { entries } = await receive(openFixture(name))
          expect(entries.length).toBeGreaterThan(3)
          expect(entries.filter((entry) => entry.layerError)).toEqual([])
          for (const entry of entries)
            if (entry.type === 'file') expect(sha256(await contentOf(entry)), entry.name).toBe(entry.digest)
        })
      }
    })

    describe('refusals leave nothing', () => {
      it('cut anywhere', async () => {
        // the last entry has no data, so its header's end is a good end
        const end = archive.length - 1024 - 512
        const cuts = [
          1,
          511,
          513,
          1023,
          5000,
          layer.length,
          ...Array.from({ length: 12 }, () => Math.floor(Math.random() * end)),
        ]
        for (const length of cuts) {
          const part = archive.subarray(0, length)
          // A cut right at an entry's end cannot be told from a whole archive.
          const code = await intake.receive(whole(part), { upload: randomUUID() }).then(
            () => 'whole',
            (error: unknown) => (error as { code: string }).code,
          )
          if (code !== 'whole')
            expect(await refused(whole(part)), `cut at ${length}`).toBe(
              length < 512 ? 'archive_invalid' : 'archive_truncated',
            )
        }
        for (const packed of [gzipped, zstandard]) {
          for (const length of [3, 10, 5000, packed.length - 1])
            expect(await refused(whole(packed.subarray(0, length))), `packed, cut at ${length}`).toBe(
              // Three bytes are less than zstd's magic.
              packed === zstandard && length === 3 ? 'archive_invalid' : 'archive_truncated',
            )
        }
      })

      it('no tar, no bytes, sparse, damaged', async () => {
        expect(await refused(whole(randomBytes(100_000)))).toBe('archive_invalid')
        expect(await refused(Readable.from([]))).toBe('archive_invalid')
        expect(await refused(whole(concat(file('a', 'x'), randomBytes(5_000_000))))).toBe('archive_invalid')
        expect(await refused(whole(concat(gzipped, Buffer.from('rubbish'))))).toBe('archive_invalid')
        expect(
          await refused(
            whole(concat(header({ name: 's', type: 'S', size: 0, format: 'gnu', realSize: 2 ** 30 }), ZEROS)),
          ),
        ).toBe('unsupported')
      })

      it('beyond the limits', async () => {
        expect(await refused(whole(archive), { limits: { entries: 10 } })).toBe('limit_exceeded')
        expect(await refused(whole(archive), { limits: { bytes: 2_000_000 } })).toBe('limit_exceeded')
        expect(await refused(whole(bomb), { limits: { bytes: 40_000_000 } })).toBe('limit_exceeded')
        expect(await refused(whole(largeBomb))).toBe('limit_exceeded')
      })

      it('stopped, left, silent', async () => {
        const half = archive.subarray(0, 4_000_000)
        const stalled = () => {
          const body = new PassThrough({ highWaterMark: 2 ** 24 })
          body.write(half)
          return body
        }
        const untilBytes = (body: PassThrough, act: () => void) => ({
          onProgress: () => {
            if (body.readableLength === 0) setImmediate(act)
          },
        })

        const cancelled = new AbortController()
        let body = stalled()
        expect(await refused(body, { signal: cancelled.signal, ...untilBytes(body, () => cancelled.abort()) })).toBe(
          'cancelled',
        )
        expect(body.destroyed).toBe(false)
        expect(await refused(stalled(), { signal: AbortSignal.abort() })).toBe('cancelled')

        body = stalled()
        expect(
          await refused(
            body,
            untilBytes(body, () => body.destroy()),
          ),
        ).toBe('upload_interrupted')
        body = stalled()
        expect(
          await refused(
            body,
            untilBytes(body, () => body.destroy(new Error('reset'))),
          ),
        ).toBe('upload_interrupted')
        body = stalled()
        body.destroy()
        await once(body, 'close')
        expect(await refused(body)).toBe('upload_interrupted')
        expect(await refused(stalled(), { limits: { idleMs: 20 } })).toBe('upload_interrupted')
        // After more than the ring takes at once: the client was kept waiting, and its time begins
        // anew.
        body = new PassThrough()
        body.write(concat(file('a', Buffer.alloc(20_000_000))).subarray(0, 19_000_000))
        expect(await refused(body, { limits: { idleMs: 20 } })).toBe('upload_interrupted')
      })

      it('stopped while waiting for a turn', async () => {
        const single = createIntake({ store, readers: 1 })
        const first = new PassThrough()
        const stop = new AbortController()
        const busy = single.receive(first, { upload: randomUUID() })
        const second = single.receive(whole(archive), { upload: randomUUID(), signal: stop.signal })
        const third = single.receive(whole(archive), { upload: randomUUID() })
        stop.abort()
        await expect(second).rejects.toMatchObject({ code: 'cancelled' })
        first.end(archive)
        expect((await busy).entries).toBe(11)
        expect((await third).entries).toBe(11)
        await single.close()
      })

      it('an upload that has data already keeps it', async () => {
        const { upload } = await receive(whole(archive))
        const before = await dataKeys(upload)
        await expect(intake.receive(whole(archive), { upload })).rejects.toBeInstanceOf(StrataError)
        expect(await dataKeys(upload)).toEqual(before)
      })
    })
  })
}
