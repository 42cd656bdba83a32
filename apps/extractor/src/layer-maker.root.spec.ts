import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable, Transform } from 'node:stream'
import { gzipSync as gzip, zstdCompressSync } from 'node:zlib'
import { PACKED_LIMITS, TarReader } from '@strata/archive'
import { concat, file, header, ZEROS } from '@strata/archive/testing'
import { IndexBuilder, IndexMemory, LayerFolder } from '@strata/layers'
import { StrataError } from '@strata/base'
import { digestFromHex, type Digest, type DiffId } from '@strata/oci'
import type { ExtractRef } from '@strata/queue'
import { BlobStore, freshDataKey, keys, Leases, type ObjectStore } from '@strata/store'
import { S3Store, temporaryStore, TestS3, whyNoTestS3, withoutAbilities } from '@strata/store/testing'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { LayerMaker } from './layer-maker.js'

/** Quickly: most of it is random bytes. */
const gzipSync = (bytes: Buffer): Buffer => gzip(bytes, { level: 1 })
const digestOf = (bytes: Uint8Array): Digest => digestFromHex(createHash('sha256').update(bytes).digest('hex'))
const tar = concat(
  header({ name: 'etc/', type: '5' }),
  file('etc/hosts', 'localhost'),
  file('big', randomBytes(5_000_000)),
  ZEROS,
)
const diffId = digestOf(tar) as DiffId
const upload = 'u'
const never = new AbortController().signal

function indexOf(layer: Buffer): Buffer {
  const builder = new IndexBuilder()
  const reader = new TarReader(builder)
  reader.write(layer)
  reader.end()
  return builder.finish(layer.length).encode()
}

/** What each body goes through on its way out of the store. */
type Fault = (body: Readable) => Readable

function faulty(store: ObjectStore, fault: () => Fault | undefined): ObjectStore {
  return {
    ...withoutAbilities(store),
    get: async (key, range) => {
      const found = await store.get(key, range)
      const bend = key.startsWith('data/') ? fault() : undefined
      return found && bend ? { ...found, body: bend(found.body) } : found
    },
  }
}

/** After so many bytes something else happens. */
function after(bytes: number, then: (stream: Transform, piece: Buffer) => unknown): Fault {
  let passed = 0
  return (body) => {
    const bent = new Transform({
      transform(piece: Buffer, _encoding, done) {
        passed += piece.length
        if (passed < bytes) this.push(piece)
        else if (then(this, piece) === SILENCE) return
        done()
      },
    })
    body.on('error', (error) => bent.destroy(error))
    bent.on('close', () => body.destroy())
    return body.pipe(bent)
  }
}
const breaks = (bytes: number) =>
  after(bytes, (stream) => void stream.destroy(new StrataError('store_unavailable', 'the connection broke')))
const lies = (bytes: number) => after(bytes, (stream, piece) => void stream.push(Buffer.alloc(piece.length)))
const SILENCE = 'no more comes, and no end'
const hangs = (bytes: number, then: () => void) => after(bytes, () => (then(), SILENCE))

function suite(
  name: string,
  open: () => Promise<{ store: ObjectStore; dispose: () => Promise<void> }>,
  hasFiles: boolean,
): void {
  describe(`layers from ${name}`, () => {
    let store: ObjectStore
    let blobs: BlobStore
    let dispose: () => Promise<void>
    let folder: LayerFolder
    let maker: LayerMaker
    let fault: Fault[] = []

    beforeAll(async () => {
      const opened = await open()
      ;({ dispose } = opened)
      store = hasFiles ? opened.store : faulty(opened.store, () => fault.shift())
      blobs = new BlobStore(store)
      await new Leases(store).create(upload, { job: { kind: 'load', id: 'j' }, request: {} })
    })
    afterAll(() => dispose())
    beforeEach(async () => {
      fault = []
      folder = new LayerFolder(mkdtempSync(join(tmpdir(), 'strata-layers-')))
      maker = await LayerMaker.open(store, blobs, folder)
    })
    afterEach(async () => {
      await maker.close()
      rmSync(folder.path, { recursive: true })
    })

    async function blob(
      bytes: Buffer,
      of: DiffId = diffId,
      digest = digestOf(bytes),
      size = bytes.length,
    ): Promise<Required<ExtractRef>> {
      const data = freshDataKey(upload)
      await store.put(data, bytes)
      await blobs.commit(digest, { data, size }, upload)
      return { digest, diffId: of, size }
    }
    /** A plain layer of its own with its index, as an upload leaves it. */
    async function plain(size = 5_000_000): Promise<{ layer: Required<ExtractRef>; bytes: Buffer }> {
      const bytes = concat(file('big', randomBytes(size)), ZEROS)
      const layer = await blob(bytes, digestOf(bytes) as DiffId)
      await store.create(keys.index(layer.diffId), indexOf(bytes))
      return { layer, bytes }
    }
    const packed = (bytes = tar) => blob(gzipSync(concat(bytes)), digestOf(bytes) as DiffId)
    function expectLayer(bytes: Buffer): void {
      const paths = folder.paths(digestOf(bytes) as DiffId)
      expect(readFileSync(paths.tar).equals(bytes)).toBe(true)
      expect(readFileSync(paths.index).equals(indexOf(bytes))).toBe(true)
      for (const path of [paths.tar, paths.index]) expect(statSync(path).mode & 0o7777).toBe(0o444)
      expect(readdirSync(join(folder.path, 'tmp'))).toEqual([])
    }
    async function refused(layer: ExtractRef, signal = never): Promise<{ code: string; message: string }> {
      const error: unknown = await maker.ensure(layer, signal).then(
        () => new Error('made'),
        (caught: unknown) => caught,
      )
      expect(readdirSync(folder.path)).toEqual(['tmp'])
      expect(readdirSync(join(folder.path, 'tmp'))).toEqual([])
      return error as StrataError
    }

    it('plain, with the index of another node', async () => {
      const { layer, bytes } = await plain()
      const before = await store.stat(keys.index(layer.diffId))
      expect(await maker.ensure(layer, never)).toBe(true)
      expectLayer(bytes)
      expect(await store.stat(keys.index(layer.diffId))).toEqual(before)
      expect((await blobs.stat(layer.digest))?.diffId).toBe(layer.diffId)
      expect(await maker.ensure(layer, never)).toBe(false)
    })

    it('plain, with no index or an unsound one', async () => {
      const bytes = concat(file('one', randomUUID()), ZEROS)
      const layer = await blob(bytes, digestOf(bytes) as DiffId)
      expect(await maker.ensure(layer, never)).toBe(true)
      expectLayer(bytes)
      expect((await store.read(keys.index(layer.diffId), 2 ** 20))?.bytes.equals(indexOf(bytes))).toBe(true)

      const other = concat(file('two', randomUUID()), ZEROS)
      await store.create(keys.index(digestOf(other) as DiffId), Buffer.from('no index'))
      expect(await maker.ensure(await blob(other, digestOf(other) as DiffId), never)).toBe(true)
      expectLayer(other)
    })

    it('that a collection removes while its index is about to be kept: is made again', async () => {
      const { layer, bytes } = await plain()
      expect(await maker.ensure(layer, never)).toBe(true)
      vi.spyOn(store, 'stat').mockImplementationOnce(async (key) => {
        expect(key).toBe(keys.index(layer.diffId))
        await folder.remove(layer.diffId)
        return undefined
      })
      expect(await maker.ensure(layer, never)).toBe(true)
      expectLayer(bytes)
    })

    it('packed, once for all who ask', async () => {
      for (const pack of [gzipSync, zstdCompressSync]) {
        const bytes = concat(file('some', randomBytes(3_000_000)), ZEROS)
        const layer = await blob(pack(bytes), digestOf(bytes) as DiffId)
        const made = await Promise.all(Array.from({ length: 5 }, () => maker.ensure(layer, never)))
        expect(made.filter(Boolean)).toHaveLength(1)
        expectLayer(bytes)
      }
    })

    it('packed, with an index that finds no room: it waits, holding none, and is made then', async () => {
      const place = new LayerFolder(mkdtempSync(join(tmpdir(), 'strata-layers-')))
      const memory = new IndexMemory(16 * 2 ** 20)
      const limited = await LayerMaker.open(store, blobs, place, PACKED_LIMITS, memory)
      try {
        const layer = await packed(concat(file('room', randomUUID()), ZEROS))
        const others = await memory.take(memory.largest, 'all others')
        const asked = vi.spyOn(memory, 'take')
        const stop = new AbortController()
        const stopped = limited.ensure(layer, stop.signal)
        await expect.poll(() => asked.mock.calls.length).toBe(1)
        stop.abort(new StrataError('cancelled', 'no more'))
        await expect(stopped).rejects.toMatchObject({ code: 'cancelled' })
        const made = limited.ensure(layer, never)
        await expect.poll(() => asked.mock.calls.length).toBe(2)
        expect([memory.taken, readdirSync(join(place.path, 'tmp'))]).toEqual([memory.largest, []])
        others[Symbol.dispose]()
        expect(await made).toBe(true)
        expect(memory.taken).toBe(0)
      } finally {
        await limited.close()
        rmSync(place.path, { recursive: true })
      }
    })

    it('packed, of a diffID that nobody has said', async () => {
      const bytes = concat(file('some', randomBytes(3_000_000)), ZEROS)
      const { digest, size } = await blob(zstdCompressSync(bytes))
      const known = await blob(gzipSync(bytes), digestOf(bytes) as DiffId)
      // Nobody knows beforehand that both are the same inside.
      const made = await Promise.all([
        ...Array.from({ length: 3 }, () => maker.ensure({ digest, size }, never)),
        maker.ensure(known, never),
      ])
      expect(made.filter(Boolean)).toHaveLength(1)
      expectLayer(bytes)
      for (const each of [digest, known.digest]) expect((await blobs.stat(each))?.diffId).toBe(digestOf(bytes))
      expect(await maker.ensure({ digest, size }, never)).toBe(false)
    })

    it('several side by side', async () => {
      const layers = await Promise.all([plain(), plain(), packed(concat(file('x', randomUUID()), ZEROS)), packed()])
      expect(await Promise.all(layers.map((each) => maker.ensure('layer' in each ? each.layer : each, never)))).toEqual(
        [true, true, true, true],
      )
      expectLayer(tar)
    })

    it('refuses what is not there, and what is not it', async () => {
      expect(await refused({ digest: digestOf(randomBytes(9)), diffId, size: 9 })).toMatchObject({
        code: 'layer_missing',
      })
      const some = randomBytes(2_000_000)
      expect(await refused(await blob(some, digestOf(some) as DiffId, digestOf(some), some.length + 1))).toMatchObject({
        code: 'corrupt',
      })
      const other = digestOf(randomBytes(9)) as DiffId
      expect(await refused(await blob(gzipSync(concat(file('y', randomUUID()), ZEROS)), other))).toMatchObject({
        code: 'digest_mismatch',
      })
      expect(await refused(await blob(gzipSync(randomBytes(3000)), other))).toMatchObject({ code: 'layer_invalid' })
      const { digest, size } = await blob(gzipSync(randomBytes(3000)))
      expect(await refused({ digest, size })).toMatchObject({
        code: 'layer_invalid',
        message: expect.stringContaining('this is not a tar') as string,
      })
      const cut = gzipSync(concat(file('cut', randomBytes(3_000_000)), ZEROS)).subarray(0, 2_000_000)
      const { code, message } = await refused(await blob(cut, other))
      expect({ code, message }).toEqual({
        code: 'layer_invalid',
        message: `the layer ${digestOf(cut)}: the layer's gzip stream is cut short`,
      })
    })

    it("says when bytes in the store are not the blob's", async () => {
      const right = gzipSync(concat(file('z', randomBytes(3_000_000)), ZEROS))
      const wrong = Buffer.from(right)
      wrong.fill(0, 1_000_000, 1_000_100)
      const { code, message } = await refused(await blob(wrong, diffId, digestOf(right)))
      expect({ code, message }).toEqual({
        code: 'corrupt',
        message: `the layer ${digestOf(right)} in the store is damaged: its bytes are ${digestOf(wrong)}`,
      })
    })

    if (hasFiles) return

    it('a body that breaks or lies is asked for once more', async () => {
      for (const bend of [breaks, lies]) {
        const { layer, bytes } = await plain()
        fault = [bend(2_000_000)]
        expect(await maker.ensure(layer, never)).toBe(true)
        expectLayer(bytes)
        const inside = concat(file('w', randomBytes(4_000_000)), ZEROS)
        const other = await packed(inside)
        fault = [bend(2_000_000)]
        expect(await maker.ensure(other, never)).toBe(true)
        expectLayer(inside)
      }
    })

    it('and no more than once', async () => {
      for (const { layer } of [
        await plain(),
        { layer: await packed(concat(file('v', randomBytes(3_000_000)), ZEROS)) },
      ]) {
        fault = [breaks(1_500_000), breaks(1_500_000)]
        expect(await refused(layer)).toMatchObject({ code: 'store_unavailable', message: 'the connection broke' })
        fault = [lies(1_500_000), lies(1_500_000)]
        expect(await refused(layer)).toMatchObject({ code: 'corrupt' })
      }
    })

    it.skipIf(hasFiles)('that another image claims for its own blob: nobody waits for that blob', async () => {
      const other = concat(file('other', randomBytes(3_000_000)), ZEROS)
      const bytes = concat(file('own', randomBytes(1_000_000)), ZEROS)
      const of = digestOf(bytes) as DiffId
      const lie = await blob(gzipSync(other), of)
      const truth = await blob(gzipSync(bytes), of)
      const [reached, abort] = [Promise.withResolvers<undefined>(), new AbortController()]
      fault = [hangs(100_000, () => reached.resolve(undefined))]
      const lying = maker.ensure(lie, abort.signal)
      await reached.promise
      expect(await maker.ensure(truth, never)).toBe(true)
      expect(folder.has(of)).toBe(true)
      abort.abort(new StrataError('cancelled', 'stopped'))
      await expect(lying).rejects.toMatchObject({ code: 'cancelled' })
    })

    it('is stopped while the store is silent', async () => {
      for (const { layer } of [
        await plain(),
        { layer: await packed(concat(file('t', randomBytes(3_000_000)), ZEROS)) },
      ]) {
        const stop = new AbortController()
        fault = [hangs(1_000_000, () => stop.abort(new StrataError('cancelled', 'enough')))]
        expect(await refused(layer, stop.signal)).toMatchObject({ message: 'enough' })
      }
    })
  })
}

suite('a folder', temporaryStore, true)
suite(
  'a store without files',
  async () => {
    const { store, dispose } = await temporaryStore()
    return { store: withoutAbilities(store), dispose }
  },
  false,
)

const why = whyNoTestS3('minio')
if (why === undefined) suite('MinIO', minio, false)
else describe('layers from MinIO', () => it('are made', (context) => context.skip(why)))

async function minio(): Promise<{ store: ObjectStore; dispose: () => Promise<void> }> {
  const s3 = await TestS3.start()
  const store = await S3Store.open(s3)
  return { store, dispose: () => store.close().then(() => s3.remove()) }
}
