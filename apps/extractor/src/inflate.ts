import { createHash, type Hash } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { Transform, type Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { CheckpointWriter, COMPRESSION_HEAD, decompressor, detectCompression, TarReader, type PackedLimits } from '@strata/archive'
import { IndexBuilder } from '@strata/layers'
import { algorithmOf, asStrataError, digestFromHex, StrataError, type Algorithm, type DiffId, type Digest } from '@strata/oci'

export interface InflateTask {
  readonly blob: Digest
  /** The blob's own digest for a layer that travels as a plain tar; `undefined` where nobody has said what it is inside. */
  readonly diffId: DiffId | undefined
  readonly tar: string
  /** Where the index is to be written; none where the store has it already. */
  readonly index: string | undefined
  /** Where the checkpoints of a gzip layer are to be written, if it is large enough for any. */
  readonly checkpoints: string | undefined
  readonly limits: PackedLimits
}

/** What is small is written together: up to this much waits for the write before it. */
const WRITE_AHEAD = 2 * 1024 * 1024

/**
 * One pass over a layer's blob: inflated, hashed as it travels and as it is inside, indexed, written once. Gives the diffID. What does not match is refused: `corrupt` if the bytes
 * are not the blob's, `digest_mismatch`, `layer_invalid` or `limit_exceeded` if they are. The files are the caller's to remove then.
 */
export async function inflate(task: InflateTask, source: Readable, signal?: AbortSignal): Promise<DiffId> {
  const bytes = new Travelling(source, algorithmOf(task.blob))
  const inside = task.blob === task.diffId ? undefined : createHash('sha256')
  const walk = task.index === undefined ? undefined : startWalk(task.index, task.limits)
  let size = 0
  const stop = (): void => void source.destroy(asStrataError(signal?.reason))
  signal?.addEventListener('abort', stop)
  try {
    signal?.throwIfAborted()
    const compression = inside ? detectCompression(await bytes.head()) : 'none'
    const watcher = task.checkpoints !== undefined && compression === 'gzip' ? new CheckpointWriter() : undefined
    await pipeline(
      watcher ? watcher.cut(bytes.pieces()) : bytes.pieces(),
      decompressor(compression, { maxRatio: task.limits.ratio, ...(watcher && { watcher }) }),
      look((piece) => {
        watcher?.output(piece)
        inside?.update(piece)
        walk?.reader.write(piece)
        size += piece.length
      }),
      createWriteStream(task.tar, { flags: 'wx', mode: 0o600, highWaterMark: WRITE_AHEAD }),
    )
    const diffId = (inside ? digestFromHex(inside.digest('hex')) : task.blob) as DiffId
    if (diffId !== (task.diffId ?? diffId)) throw new StrataError('digest_mismatch', `unpacks to ${diffId}, but the image's config lists ${task.diffId}`)
    walk?.reader.end()
    await expectBlob(task.blob, bytes)
    const checkpoints = watcher?.finish()
    if (checkpoints) await writeFile(task.checkpoints!, checkpoints, { mode: 0o600 })
    if (walk) await writeFile(walk.index, walk.builder.finish(size).encode(), { mode: 0o600 })
    return diffId
  } catch (error) {
    signal?.throwIfAborted()
    if (!(error instanceof StrataError) || !OF_THE_LAYER.has(error.code)) throw error
    // It was sent so, or has changed since: only all of its bytes can tell.
    await expectBlob(task.blob, bytes)
    throw new StrataError(error.code, `the layer ${task.blob}${error.code === 'digest_mismatch' ? '' : ':'} ${error.message}`, { cause: error })
  } finally {
    signal?.removeEventListener('abort', stop)
    source.destroy()
  }
}

/** What a layer's content is refused for; all else is of the store or the disk. */
const OF_THE_LAYER: ReadonlySet<string> = new Set(['layer_invalid', 'archive_invalid', 'archive_truncated', 'limit_exceeded', 'unsupported', 'digest_mismatch'])

/** Reads on to the blob's end, whoever has stopped in its middle. */
async function expectBlob(blob: Digest, bytes: Travelling): Promise<void> {
  const found = await bytes.digest()
  if (found !== blob) throw new StrataError('corrupt', `the layer ${blob} in the store is damaged: its bytes are ${found}`)
}

/** A blob's bytes on their way, hashed; whoever takes them may stop, and what he left is hashed too. */
class Travelling {
  private readonly hash: Hash
  private readonly source: AsyncIterator<Buffer>
  private readonly taken: AsyncGenerator<Buffer>
  private unread: Buffer = Buffer.alloc(0)

  constructor(source: Readable, algorithm: Algorithm) {
    this.hash = createHash(algorithm)
    // Its error is the iterator's to tell, which listens in its turns only.
    source.on('error', () => undefined)
    this.source = source[Symbol.asyncIterator]() as AsyncIterator<Buffer>
    this.taken = this.take()
  }

  /** To be asked for before the pieces are taken. */
  async head(): Promise<Buffer> {
    while (this.unread.length < COMPRESSION_HEAD) {
      const next = await this.source.next()
      if (next.done) break
      this.unread = Buffer.concat([this.unread, next.value])
    }
    return this.unread
  }

  pieces(): AsyncGenerator<Buffer> {
    return this.taken
  }

  async digest(): Promise<Digest> {
    await this.taken.return(undefined)
    for (const rest = this.take(); !(await rest.next()).done; );
    return digestFromHex(this.hash.digest('hex'))
  }

  /** Its end leaves the source open. */
  private async *take(): AsyncGenerator<Buffer> {
    const { unread } = this
    this.unread = Buffer.alloc(0)
    this.hash.update(unread)
    yield unread
    for (let next = await this.source.next(); !next.done; next = await this.source.next()) {
      this.hash.update(next.value)
      yield next.value
    }
  }
}

/** Shows each piece on its way. */
function look(at: (piece: Buffer) => void): Transform {
  return new Transform({
    transform(piece: Buffer, _encoding, done) {
      try {
        at(piece)
      } catch (error) {
        return done(error as Error)
      }
      done(null, piece)
    },
  })
}

function startWalk(index: string, limits: PackedLimits): { index: string; builder: IndexBuilder; reader: TarReader } {
  const builder = new IndexBuilder(limits)
  return { index, builder, reader: new TarReader(builder, limits) }
}
