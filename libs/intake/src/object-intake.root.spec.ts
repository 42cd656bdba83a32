import { randomBytes, randomUUID } from 'node:crypto'
import { Readable } from 'node:stream'
import { concat, file, header, ZEROS } from '@strata/archive/testing'
import { StrataError } from '@strata/base'
import { BlobStore, keys, listAll, type ByteSource, type ObjectStore } from '@strata/store'
import { S3Store, temporaryStore, TestS3, whyNoTestS3, withoutAbilities } from '@strata/store/testing'
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest'
import { createIntake, type Intake, type ReceiveOptions } from './index.js'

/** What happens to a key's bytes before the store has them; it may throw, or wait. */
type Fault = (key: string, chunk: number) => Promise<undefined> | undefined

let inner: ObjectStore
let dispose: () => Promise<void>
let intake: Intake
let fault: Fault
let isAway: boolean

function away(): StrataError {
  return new StrataError('store_unavailable', 'the store is away')
}

beforeAll(async () => {
  const opened = await temporaryStore()
  ;({ dispose } = opened)
  inner = withoutAbilities(opened.store)
  const reached = <T>(work: () => Promise<T>): Promise<T> => (isAway ? Promise.reject(away()) : work())
  const bent = async function* (key: string, source: ByteSource) {
    let chunk = 0
    for await (const piece of source instanceof Uint8Array ? [source] : source) {
      await fault(key, chunk++)
      if (isAway) throw away()
      yield piece
    }
  }
  intake = createIntake({
    store: {
      ...inner,
      put: (key, source, options) => reached(() => inner.put(key, bent(key, source), options)),
      create: (key, bytes) => reached(async () => (await fault(key, 0), inner.create(key, bytes))),
      delete: (names) => reached(() => inner.delete(names)),
      list: (prefix, options) => reached(() => inner.list(prefix, options)),
    },
  })
})
afterAll(async () => {
  await intake.close()
  await dispose()
})
beforeEach(() => {
  fault = () => undefined
  isAway = false
})

const layer = concat(file('big', randomBytes(12_000_000)), ZEROS)
const archive = concat(
  file('a', 'x'),
  file('layer.tar', layer),
  ...Array.from({ length: 30 }, (_, i) => file(`small${i}`, randomBytes(100_000))),
  file('last', randomBytes(2_000_000)),
  ZEROS,
)
const pieces = 65_536

function body(onPiece?: (piece: number) => void): Readable {
  return Readable.from(
    (function* () {
      for (let at = 0; at < archive.length; at += pieces) {
        onPiece?.(at / pieces)
        yield archive.subarray(at, at + pieces)
      }
    })(),
  )
}
async function dataKeys(upload: string): Promise<string[]> {
  const found: string[] = []
  for await (const { key } of listAll(inner, keys.dataOf(upload))) found.push(key)
  return found
}
async function refused(options: Partial<ReceiveOptions> = {}): Promise<unknown> {
  const upload = randomUUID()
  const error: unknown = await intake.receive(body(), { upload, ...options }).then(
    () => 'no error',
    (caught: unknown) => caught,
  )
  expect(await dataKeys(upload)).toEqual([])
  return error
}

describe('an intake into a store that fails', () => {
  it('ends with its sentence and leaves nothing, wherever it is', async () => {
    const full = new StrataError('storage_full', 'the bucket is full')
    for (const [name, at] of [
      ['claim', 0],
      ['1', 0],
      ['1', 7],
      ['small', 0],
      ['small', 1],
      ['32', 1],
      ['listing', 0],
      ['index/', 0],
    ] as const) {
      fault = (key, chunk) => {
        if (key.includes(name.endsWith('/') ? name : `/${name}`) && chunk === at) throw full
        return undefined
      }
      expect(await refused(), `${name}, chunk ${at}`).toMatchObject({
        code: 'storage_full',
        message: 'the bucket is full',
      })
    }
    fault = () => undefined
    expect((await intake.receive(body(), { upload: randomUUID() })).entries).toBe(33)
  })

  it('goes on where the store was away for the index of a layer alone, which can be made again', async () => {
    fault = (key) => {
      if (key.startsWith('index/')) throw away()
      return undefined
    }
    expect((await intake.receive(body(), { upload: randomUUID() })).entries).toBe(33)
  })

  it('is told why, also if nothing can be taken away; what is left goes when it is swept', async () => {
    const upload = randomUUID()
    fault = (key, chunk) => {
      isAway ||= key.endsWith('/32') && chunk === 1
      return undefined
    }
    await expect(intake.receive(body(), { upload })).rejects.toMatchObject({
      code: 'store_unavailable',
      message: 'the store is away',
    })
    isAway = false
    expect(await dataKeys(upload)).toEqual(['1', 'claim'].map((name) => keys.data(upload, name)))
    await new BlobStore(inner).deleteUnused(upload)
    expect(await dataKeys(upload)).toEqual([])
  })

  it('that hangs holds the client up, and can be left', async () => {
    for (const leave of [true, false]) {
      const hangs = Promise.withResolvers<undefined>()
      const stop = new AbortController()
      let read = 0
      fault = (key, chunk) => (key.endsWith('/1') && chunk === 1 ? hangs.promise : undefined)
      const upload = randomUUID()
      const received = intake.receive(
        body((piece) => (read = piece)),
        { upload, signal: stop.signal },
      )
      await expect.poll(() => read * pieces).toBeGreaterThan(8_000_000)
      // Another one goes all the way meanwhile.
      await intake.receive(Readable.from([concat(file('a', 'x'), ZEROS)]), { upload: randomUUID() })
      expect(read * pieces).toBeLessThan(12_000_000)
      if (leave) {
        stop.abort()
        await expect(received).rejects.toMatchObject({ code: 'cancelled' })
        hangs.resolve(undefined)
        expect(await dataKeys(upload)).toEqual([])
      } else {
        hangs.resolve(undefined)
        expect((await received).entries).toBe(33)
        expect((await inner.read(keys.data(upload, '1'), layer.length))?.bytes.equals(layer)).toBe(true)
      }
    }
  })
})

const why = whyNoTestS3('minio')
describe.skipIf(why !== undefined)('an intake into a MinIO that is killed in the middle', () => {
  it(`ends with a sentence, and once it is back and swept nothing of it is there${why === undefined ? '' : ` (${why})`}`, async () => {
    const s3 = await TestS3.start()
    onTestFinished(() => s3.remove())
    const store = await S3Store.open(s3)
    const other = createIntake({ store })
    onTestFinished(() => other.close())
    const upload = randomUUID()
    let killed: Promise<void> | undefined
    const large = Readable.from(
      (function* () {
        const piece = Buffer.alloc(pieces)
        yield header({ name: 'large', size: 2_000 * pieces })
        for (let i = 0; i < 2_000; i++) yield piece
      })(),
    )
    const received = other.receive(large, {
      upload,
      onProgress: ({ bytes }) => void (bytes > 60_000_000 && (killed ??= s3.kill())),
    })
    await expect(received).rejects.toMatchObject({
      code: 'store_unavailable',
      message: expect.stringMatching(
        /^the S3 server at http:\/\/127\.0\.0\.1:\d+ (cannot be reached|broke off) \([^)]*\)$/,
      ) as string,
    })
    await s3.start()
    await new BlobStore(store).deleteUnused(upload)
    for await (const { key } of listAll(store, '')) expect.unreachable(key)
    // MinIO started anew tells of unfinished uploads by their whole key only.
    for await (const { key } of store.listPartial(keys.data(upload, '0'))) expect.unreachable(key)
    expect((await other.receive(body(), { upload: randomUUID() })).entries).toBe(33)
    await store.close()
  })
})
