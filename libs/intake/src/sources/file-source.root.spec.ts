import { createHash, randomBytes } from 'node:crypto'
import {
  closeSync,
  createReadStream,
  createWriteStream,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { decodeListing } from '@strata/archive'
import { concat, file, FIXTURES, header, openFixture, pax, paxHeader, ZEROS } from '@strata/archive/testing'
import { FolderStore, listAll, mendTail } from '@strata/store'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { createIntake, type Intake, type ReceiveOptions } from '../index.js'

/** One intake and store for each source, so that the same upload has the same keys in both. */
let root: string
const sides: { store: FolderStore; intake: Intake }[] = []
beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'strata-file-source-'))
  for (const name of ['streams', 'files']) {
    const store = await FolderStore.open(join(root, name), mendTail)
    sides.push({ store, intake: createIntake({ store }) })
  }
})
afterAll(async () => {
  for (const { store, intake } of sides) {
    await intake.close()
    await store.close()
  }
  rmSync(root, { recursive: true, force: true })
})

let uploads = 0
const nextUpload = () => `u${++uploads}`
const path = () => join(root, 'archive.tar')
const write = (bytes: Buffer) => writeFileSync(path(), bytes)

async function receiveFile(upload: string, options: Partial<ReceiveOptions> = {}) {
  const fd = openSync(path(), 'r')
  try {
    return await sides[1]!.intake.receiveFile({ fd, size: statSync(path()).size }, { upload, ...options })
  } finally {
    closeSync(fd)
  }
}
async function objects(store: FolderStore): Promise<Record<string, Buffer>> {
  const all: Record<string, Buffer> = {}
  for await (const { key } of listAll(store, '')) all[key] = readFileSync(store.localPath(key))
  return all
}
async function empty(): Promise<void> {
  for (const { store } of sides)
    await store.delete(Object.keys(await objects(store)).filter((key) => key.startsWith('data/')))
}
const refusal = (promise: Promise<unknown>) =>
  promise.then(
    () => 'taken',
    (error: unknown) => `${(error as { code: string }).code}: ${(error as Error).message}`,
  )

/**
 * The archive that is written comes to the same both ways: objects, list, indexes; or the same
 * refusal, and nothing.
 */
async function comesToTheSame(options: Partial<ReceiveOptions> = {}): Promise<string> {
  await empty()
  const upload = nextUpload()
  const [streamed, filed] = [
    await refusal(sides[0]!.intake.receive(createReadStream(path()), { upload, ...options })),
    await refusal(receiveFile(upload, options)),
  ]
  expect(filed).toBe(streamed)
  const [expected, found] = [await objects(sides[0]!.store), await objects(sides[1]!.store)]
  expect(Object.keys(found)).toEqual(Object.keys(expected))
  for (const [key, bytes] of Object.entries(expected)) expect(found[key]?.equals(bytes), key).toBe(true)
  for (const key of Object.keys(found))
    expect(statSync(sides[1]!.store.localPath(key)).mode & 0o7777, key).toBe(
      statSync(sides[0]!.store.localPath(key)).mode & 0o7777,
    )
  return streamed
}

const layer = concat(
  header({ name: 'etc/', type: '5' }),
  file('etc/hosts', 'localhost'),
  file('big', randomBytes(13_000_000)),
  ZEROS,
)
const sha512 = (bytes: Buffer): string => createHash('sha512').update(bytes).digest('hex')
const archive = concat(
  file('manifest.json', '[]'),
  file('layer.tar', layer),
  header({ name: 'link', type: '2', link: 'layer.tar' }),
  file('empty', ''),
  header({ name: 'hard', type: '1', link: 'manifest.json' }),
  paxHeader(pax('path', 'p/'.repeat(400) + 'long')),
  file('packed', gzipSync(layer, { level: 1 })),
  file('packed.zst', zstdCompressSync(layer)),
  file('broken', concat(file('a', 'x'), Buffer.alloc(512, 'damaged'), ZEROS)),
  file('zeros', ZEROS),
  file('cut', layer.subarray(0, 2_000_000)),
  file('random', randomBytes(1_048_576)),
  file('less', randomBytes(1_048_575)),
  header({ name: 'd/', type: '5' }),
  paxHeader(pax('path', `blobs/sha512/${sha512(layer)}`)),
  file('known by sha512', layer),
  ZEROS,
)
const gzipped = gzipSync(archive, { level: 1 })

describe('a file comes to the same as a stream', () => {
  for (const name of FIXTURES) {
    it(name, async () => {
      await pipeline(openFixture(name), createWriteStream(path()))
      expect(await comesToTheSame()).toBe('taken')
    })
  }

  it('an archive of everything; packed; with rubbish behind it', async () => {
    for (const bytes of [
      archive,
      gzipped,
      zstdCompressSync(archive),
      concat(archive, randomBytes(3_000_000)),
      concat(file('a', 'x'), ZEROS),
    ]) {
      write(bytes)
      expect(await comesToTheSame()).toBe('taken')
    }
  })

  it('one file alone, whatever it is', async () => {
    for (const bytes of [
      layer,
      gzipSync(layer, { level: 1 }),
      concat(file('a', 'x'), ZEROS),
      gzipSync(ZEROS),
      randomBytes(1_048_576),
      Buffer.from('x'),
    ]) {
      write(bytes)
      expect(await comesToTheSame({ whole: true })).toBe('taken')
    }
    write(Buffer.alloc(0))
    expect(await comesToTheSame({ whole: true })).toMatch(/^archive_invalid: /)
  })

  it('what is refused', async () => {
    const bad: [Buffer, string][] = [
      [Buffer.alloc(0), 'archive_invalid'],
      [randomBytes(100_000), 'archive_invalid'],
      [concat(file('a', 'x'), randomBytes(2_000_000)), 'archive_invalid'],
      [concat(header({ name: 's', type: 'S', size: 0, format: 'gnu', realSize: 2 ** 30 }), ZEROS), 'unsupported'],
      [header({ name: 'x', type: 'x', size: 2 ** 21 }), 'limit_exceeded'],
      [gzipped.subarray(0, 5000), 'archive_truncated'],
      [archive.subarray(0, 300), 'archive_invalid'],
      ...[513, 3000, 1_000_000, 20_000_000, archive.length - 3000].map((length): [Buffer, string] => [
        archive.subarray(0, length),
        'archive_truncated',
      ]),
    ]
    for (const [bytes, code] of bad) {
      write(bytes)
      expect(await comesToTheSame()).toMatch(new RegExp(`^${code}: `))
    }
    write(archive)
    expect(await comesToTheSame({ limits: { entries: 10 } })).toMatch(/^limit_exceeded/)
    expect(await comesToTheSame({ limits: { bytes: 2_000_000 } })).toMatch(/^limit_exceeded/)
  })

  it('many small files', async () => {
    write(concat(...Array.from({ length: 2000 }, (_, i) => file(`blobs/${i}`, `content ${i}`.repeat(i % 50))), ZEROS))
    expect(await comesToTheSame()).toBe('taken')
  })
})

describe('a file on its way', () => {
  beforeEach(empty)

  it('tells how far it is', async () => {
    write(archive)
    const upload = nextUpload()
    const seen: number[] = []
    expect(await receiveFile(upload, { onProgress: ({ bytes }) => void seen.push(bytes) })).toMatchObject({
      bytes: archive.length,
      entries: 14,
    })
    expect(seen.at(-1)).toBe(archive.length)
  })

  it('is stopped', async () => {
    write(archive)
    const stop = new AbortController()
    stop.abort()
    expect(await refusal(receiveFile(nextUpload(), { signal: stop.signal }))).toMatch(/^cancelled/)
    const later = new AbortController()
    const received = refusal(receiveFile(nextUpload(), { signal: later.signal }))
    setImmediate(() => later.abort())
    expect(await received).toMatch(/^cancelled/)
    expect(
      await objects(sides[1]!.store).then((all) => Object.keys(all).filter((key) => key.startsWith('data/'))),
    ).toEqual([])
  })

  it.each([
    ['as it is kept', { whole: false }],
    ['whole, as an import', { whole: true }],
  ])('cannot be read, as a disk that fails: the kernel’s reason is said, %s', async (_, options) => {
    // Nothing is mapped at the beginning of a process's memory.
    const fd = openSync('/proc/self/mem', 'r')
    try {
      const received = sides[1]!.intake.receiveFile({ fd, size: 1024 }, { upload: nextUpload(), ...options })
      expect(await refusal(received)).toMatch(/^upload_interrupted: .*the archive cannot be read: EIO/)
    } finally {
      closeSync(fd)
    }
  })

  it('becomes shorter', async () => {
    write(archive)
    const fd = openSync(path(), 'r+')
    const received = refusal(
      sides[1]!.intake.receiveFile({ fd, size: archive.length + 1024 * 1024 }, { upload: nextUpload() }),
    )
    expect(await received).toBe('archive_changed: the archive became shorter while it was read')
    closeSync(fd)
  })

  it('is written to meanwhile: every digest is still that of the bytes in the store', async () => {
    write(concat(file('one', randomBytes(60_000_000)), file('two', randomBytes(50_000_000)), ZEROS))
    const fd = openSync(path(), 'r+')
    const upload = nextUpload()
    const over = new AbortController()
    const received = refusal(sides[1]!.intake.receiveFile({ fd, size: statSync(path()).size }, { upload })).finally(
      () => over.abort(),
    )
    for (let at = 1024; !over.signal.aborted; at = (at + 7_000_001) % 110_000_000) {
      writeSync(fd, randomBytes(100_000), 0, 100_000, Math.max(at, 1024))
      await new Promise(setImmediate)
    }
    ftruncateSync(fd, 0)
    closeSync(fd)
    expect(await received).toMatch(/taken|archive_/)
    if ((await received) === 'taken') {
      const all = await objects(sides[1]!.store)
      for (const { at, digest } of decodeListing(all[`data/${upload}/listing`]!).entries)
        expect(`sha256:${createHash('sha256').update(all[at!.object]!).digest('hex')}`).toBe(digest)
    }
  })
})
