import { createHash, type Hash } from 'node:crypto'
import { open, writeFile, type FileHandle } from 'node:fs/promises'
import type { Readable } from 'node:stream'
import { COMPRESSION_HEAD, detectCompression, TarReader, type PackedLimits } from '@strata/archive'
import { GrowingMemory, IndexBuilder, type SharedMemory } from '@strata/layers'
import { asStrataError, StrataError } from '@strata/base'
import { algorithmOf, digestFromHex, type Algorithm, type DiffId, type Digest } from '@strata/oci'
import { Gunzip } from './gunzip.js'
import { Unzstd } from './unzstd.js'

export interface InflateTask {
  readonly blob: Digest
  /**
   * The blob's own digest for a layer that travels as a plain tar; `undefined` where nobody has
   * said what it is inside.
   */
  readonly diffId: DiffId | undefined
  readonly tar: string
  /** Where the index is to be written; none where the store has it already. */
  readonly index: string | undefined
  /** Where the checkpoints of a gzip layer are to be written, if it is large enough for any. */
  readonly checkpoints: string | undefined
  readonly limits: PackedLimits
  /** Of the process, for the index; without it as much as the limits say. */
  readonly memory?: SharedMemory
}

/**
 * One pass over a layer's blob: inflated, hashed as it travels and as it is inside, indexed,
 * written once. Gives the diffID. What does not match is refused: `corrupt` if the bytes are not
 * the blob's, `digest_mismatch`, `layer_invalid` or `limit_exceeded` if they are. The files are the
 * caller's to remove then.
 */
export async function inflate(task: InflateTask, source: Readable, signal?: AbortSignal): Promise<DiffId> {
  const bytes = new Travelling(source, algorithmOf(task.blob))
  const inside = task.blob === task.diffId ? undefined : createHash('sha256')
  const walk = task.index === undefined ? undefined : startWalk(task.index, task)
  let size = 0
  const stop = (): void => void source.destroy(asStrataError(signal?.reason))
  signal?.addEventListener('abort', stop)
  try {
    signal?.throwIfAborted()
    const compression = inside ? detectCompression(await bytes.head()) : 'none'
    const gunzip =
      compression === 'gzip'
        ? new Gunzip({ maxRatio: task.limits.ratio, findsCheckpoints: task.checkpoints !== undefined })
        : undefined
    using unpacker = gunzip ?? (compression === 'zstd' ? new Unzstd({ maxRatio: task.limits.ratio }) : undefined)
    await using tar = new TarFile(await open(task.tar, 'wx', 0o600))
    for await (const piece of unpacker ? unpacked(bytes.pieces(), unpacker) : bytes.pieces()) {
      signal?.throwIfAborted()
      inside?.update(piece)
      walk?.reader.write(piece)
      size += piece.length
      await tar.write(piece)
    }
    await tar.end()
    const diffId = (inside ? digestFromHex(inside.digest('hex')) : task.blob) as DiffId
    if (diffId !== (task.diffId ?? diffId))
      throw new StrataError('digest_mismatch', `unpacks to ${diffId}, but the image's config lists ${task.diffId}`)
    walk?.reader.end()
    await expectBlob(task.blob, bytes)
    const checkpoints = gunzip?.checkpoints()
    if (checkpoints) await writeFile(task.checkpoints!, checkpoints, { mode: 0o600 })
    if (walk) await writeFile(walk.index, walk.builder.finish(size).encode(), { mode: 0o600 })
    return diffId
  } catch (error) {
    signal?.throwIfAborted()
    if (!(error instanceof StrataError) || !OF_THE_LAYER.has(error.code)) throw error
    // It was sent so, or has changed since: only all of its bytes can tell.
    await expectBlob(task.blob, bytes)
    throw new StrataError(
      error.code,
      `the layer ${task.blob}${error.code === 'digest_mismatch' ? '' : ':'} ${error.message}`,
      { cause: error },
    )
  } finally {
    signal?.removeEventListener('abort', stop)
    source.destroy()
  }
}

/** What a layer's content is refused for; all else is of the store or the disk. */
const OF_THE_LAYER: ReadonlySet<string> = new Set([
  'layer_invalid',
  'archive_invalid',
  'archive_truncated',
  'limit_exceeded',
  'unsupported',
  'digest_mismatch',
])

/** Reads on to the blob's end, whoever has stopped in its middle. */
async function expectBlob(blob: Digest, bytes: Travelling): Promise<void> {
  const found = await bytes.digest()
  if (found !== blob)
    throw new StrataError('corrupt', `the layer ${blob} in the store is damaged: its bytes are ${found}`)
}

/**
 * A blob's bytes on their way, hashed; whoever takes them may stop, and what he left is hashed too.
 */
class Travelling {
  readonly #hash: Hash
  readonly #source: AsyncIterator<Buffer>
  readonly #taken: AsyncGenerator<Buffer>
  #unread: Buffer = Buffer.alloc(0)

  constructor(source: Readable, algorithm: Algorithm) {
    this.#hash = createHash(algorithm)
    // Its error is the iterator's to tell, which listens in its turns only.
    source.on('error', () => undefined)
    this.#source = source[Symbol.asyncIterator]() as AsyncIterator<Buffer>
    this.#taken = this.#take()
  }

  /** To be asked for before the pieces are taken. */
  async head(): Promise<Buffer> {
    while (this.#unread.length < COMPRESSION_HEAD) {
      const next = await this.#source.next()
      if (next.done) break
      this.#unread = Buffer.concat([this.#unread, next.value])
    }
    return this.#unread
  }

  pieces(): AsyncGenerator<Buffer> {
    return this.#taken
  }

  async digest(): Promise<Digest> {
    await this.#taken.return(undefined)
    for (const rest = this.#take(); !(await rest.next()).done;);
    return digestFromHex(this.#hash.digest('hex'))
  }

  /** Its end leaves the source open. */
  async *#take(): AsyncGenerator<Buffer> {
    const unread = this.#unread
    this.#unread = Buffer.alloc(0)
    this.#hash.update(unread)
    yield unread
    for (let next = await this.#source.next(); !next.done; next = await this.#source.next()) {
      this.#hash.update(next.value)
      yield next.value
    }
  }
}

async function* unpacked(pieces: AsyncIterable<Buffer>, unpacker: Gunzip | Unzstd): AsyncGenerator<Buffer> {
  for await (const piece of pieces) yield* unpacker.take(piece)
  yield* unpacker.end()
}

/** One piece is written while the next is made. */
class TarFile implements AsyncDisposable {
  #writing: Promise<void> = Promise.resolve()

  constructor(private readonly file: FileHandle) {}

  /** Done when the piece before is written. */
  async write(piece: Buffer): Promise<void> {
    await this.#writing
    this.#writing = this.#all(piece)
    // It is told at the next call.
    this.#writing.catch(() => undefined)
  }

  async end(): Promise<void> {
    await this.#writing
    await this.file.close()
  }

  /**
   * Whatever there is to tell was told before. A write that is under way goes first: its descriptor
   * may be another file's as soon as it is closed.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writing.catch(() => undefined)
    await this.file.close().catch(() => undefined)
  }

  async #all(piece: Buffer): Promise<void> {
    for (let rest = piece; rest.length > 0;) rest = rest.subarray((await this.file.write(rest)).bytesWritten)
  }
}

function startWalk(
  index: string,
  { limits, memory }: InflateTask,
): { index: string; builder: IndexBuilder; reader: TarReader } {
  const builder = new IndexBuilder(limits, memory && new GrowingMemory(memory))
  return { index, builder, reader: new TarReader(builder, limits) }
}
