import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { decodeListing, resolveArchive, type ArchiveEntry, type BlobSource } from '@strata/archive'
import { createIntake, type Intake } from '@strata/intake'
import { StrataError } from '@strata/base'
import { FolderStore, keys, listAll, mendTail } from '@strata/store'
import { makeImageArchive } from './archive-cases.js'
import type { Random } from './random.js'

/**
 * Of every archive: it ends in images or one StrataError, the same however the body is cut, packed
 * or brought; what is refused leaves nothing; an image's parts are in the list with their digests.
 */
export class ArchiveFuzzer implements AsyncDisposable {
  private constructor(
    private readonly folder: string,
    private readonly store: FolderStore,
    private readonly intake: Intake,
  ) {}

  static async open(): Promise<ArchiveFuzzer> {
    const folder = mkdtempSync(join(tmpdir(), 'strata-fuzz-'))
    const store = await FolderStore.open(join(folder, 'store'), mendTail)
    return new ArchiveFuzzer(folder, store, createIntake({ store }))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.intake.close()
    await this.store.close()
    rmSync(this.folder, { recursive: true, force: true })
  }

  async run(random: Random): Promise<void> {
    const archive = makeImageArchive(random)
    const first = await this.#load(Readable.from([archive]))
    const packed = random.of([(bytes: Buffer) => bytes, gzipSync, zstdCompressSync])(archive)
    const second = await this.#load(cut(packed, random))
    if (first !== second) throw new Error(`another archive when cut or packed:\n${first}\n${second}`)
  }

  /** What became of it, as a text. */
  async #load(body: Readable): Promise<string> {
    const upload = randomUUID()
    const received = await this.intake.receive(body, { upload, limits: { idleMs: 10_000 } }).catch(refusal)
    if (typeof received === 'string') {
      for await (const { key } of listAll(this.store, keys.dataOf(upload)))
        throw new Error(`refused (${received}), and ${key} is left`)
      return received
    }
    const listing = decodeListing((await this.store.read(received.listing, 2 ** 28))!.bytes)
    const images = await resolveArchive(listing, (source) => this.#bytes(source)).catch(refusal)
    for await (const { key } of listAll(this.store, keys.dataOf(upload))) await this.store.delete([key])
    if (typeof images === 'string') return images
    const known = new Set(listing.entries.map(({ digest }: ArchiveEntry) => digest))
    for (const { config, layers } of images) {
      for (const { blob } of layers)
        if (!known.has(blob.digest)) throw new Error(`the layer ${blob.digest} is not in the archive`)
      if (!('bytes' in config) && !known.has(config.digest))
        throw new Error(`the config ${config.digest} is not in the archive`)
    }
    return JSON.stringify(images).replaceAll(upload, '')
  }

  async #bytes({ at, size }: BlobSource): Promise<Buffer> {
    return buffer((await this.store.get(at.object, { start: at.offset, end: at.offset + size }))!.body)
  }
}

function refusal(error: unknown): string {
  if (error instanceof StrataError && error.code !== 'internal' && error.code !== 'corrupt')
    return `${error.code}: ${error.message}`
  throw error
}

function cut(bytes: Buffer, random: Random): Readable {
  return Readable.from(
    (function* () {
      for (let at = 0; at < bytes.length;) yield bytes.subarray(at, (at += 1 + random.number(4000)))
    })(),
  )
}
