import { once } from 'node:events'
import { read as readCallback } from 'node:fs'
import { availableParallelism } from 'node:os'
import { Readable } from 'node:stream'
import { promisify } from 'node:util'
import { ARCHIVE_HEAD } from '@strata/archive'
import type { IndexMemory } from '@strata/layers'
import { failpoint, StrataError } from '@strata/base'
import { FileControl } from '../threads/file-control.js'
import { FilePlan } from '../threads/file-plan.js'
import type { Answer, FileJob, LayerIndexed } from '../threads/messages.js'
import type { Source, Taken, Task } from './source.js'
import { unpackingOf } from './unpacking.js'
import { unreadable } from './unreadable.js'
import { WorkerPair, type ReaderSession } from '../threads/readers.js'

/** A regular file, open for reading. Whoever opened it closes it. */
export interface ArchiveFile {
  readonly fd: number
  readonly size: number
}

const readOnce = promisify(readCallback)

async function read(fd: number, buffer: Buffer, position: number): Promise<number> {
  try {
    return (await readOnce(fd, buffer, 0, buffer.length, position)).bytesRead
  } catch (error) {
    throw unreadable(error)
  }
}

/**
 * Whether the file's bytes are those that are kept, so that any of them can be read at any time.
 */
export async function isAsKept({ fd }: ArchiveFile, whole: boolean): Promise<boolean> {
  const head = Buffer.alloc(ARCHIVE_HEAD)
  await read(fd, head, 0)
  return unpackingOf(head, whole) === 'none'
}

/** The file from its first byte on. `close` is done when nothing reads it any more. */
export function streamOf(file: ArchiveFile): { readonly body: Readable; close(): Promise<void> } {
  // Not a ReadStream: to destroy it closes the descriptor, whatever it was told.
  const body = Readable.from(piecesOf(file), { objectMode: false, highWaterMark: STREAM_PIECE })
  return {
    body,
    close: async () => {
      if (body.closed) return
      const closed = once(body, 'close')
      body.destroy()
      await closed
    },
  }
}

async function* piecesOf({ fd, size }: ArchiveFile): AsyncGenerator<Buffer> {
  for (let at = 0; at < size;) {
    const piece = Buffer.allocUnsafeSlow(Math.min(STREAM_PIECE, size - at))
    const length = await read(fd, piece, at)
    if (length === 0) return
    yield piece.subarray(0, length)
    at += length
  }
}

const STREAM_PIECE = 1024 * 1024
const PROGRESS_MS = 100
/** More threads than this find the memory's speed, not more cores. */
const MOST_THREADS = 8
/** A thread is worth starting for a file that takes longer than the start. */
const WORTH_A_THREAD = 64 * 1024 * 1024

/**
 * A plain archive in a file: its headers are read first, then all threads take its files, the
 * largest first, each from the archive to its place in one pass. Only for stores whose objects are
 * files.
 */
export class FileSource implements Source {
  readonly interrupted = undefined
  readonly #control = new FileControl()

  constructor(
    private readonly file: ArchiveFile,
    private readonly memory: IndexMemory,
  ) {}

  take(session: ReaderSession, task: Task): Promise<Taken> {
    return session.turn(task.stop, task.waiting, (pair) => this.#takeBy(pair, task))
  }

  async #takeBy(pair: WorkerPair, task: Task): Promise<Taken> {
    const stop = (): void => this.#control.stop()
    task.stop.addEventListener('abort', stop)
    const timer = setInterval(
      () => task.report({ bytes: this.#control.bytes, entries: this.#control.entries }),
      PROGRESS_MS,
    )
    const storing: Promise<void>[] = []
    const onIndex = (index: LayerIndexed): void =>
      void storing.push(task.keepIndex(index).then(() => this.#control.indexStored()))
    try {
      if (task.stop.aborted) stop()
      return await this.#work(pair, task, onIndex)
    } finally {
      await Promise.all(storing)
      clearInterval(timer)
      task.stop.removeEventListener('abort', stop)
    }
  }

  async #work(pair: WorkerPair, task: Task, onIndex: (index: LayerIndexed) => void): Promise<Taken> {
    const { fd, size } = this.file
    const { keyPrefix, folder, limits, whole } = task
    if (size === 0) throw new StrataError('archive_invalid', 'the upload is empty')
    if (size > limits.bytes) throw new StrataError('limit_exceeded', `the archive has more than ${limits.bytes} bytes`)
    failpoint('load.first-bytes')
    const control = this.#control.memory
    const planned = expect(
      'planned',
      await pair.lead({
        kind: 'plan',
        fd,
        size,
        keyPrefix,
        limits: { ...limits.layer, entries: limits.entries },
        whole,
        control,
      }),
      task,
    )
    const plan = new FilePlan(planned.plan)
    const copied = await this.#copy(
      pair,
      { kind: 'copy', fd, folder, layer: limits.layer, plan: planned.plan, control },
      plan,
      task,
      onIndex,
    )
    const hashed = expect(
      'hashed',
      await pair.lead({ kind: 'list', files: copied.flatMap((answer) => expect('copied', answer, task).files) }),
      task,
    )
    return { large: largeOf(plan), listing: hashed.listing, entries: hashed.entries, bytes: size }
  }

  async #copy(
    pair: WorkerPair,
    job: FileJob,
    plan: FilePlan,
    task: Task,
    onIndex: (index: LayerIndexed) => void,
  ): Promise<Answer[]> {
    const early = (answer: Answer): void => {
      if (answer.kind === 'failed') task.fail(new StrataError(answer.code, answer.message))
    }
    const more = Math.min(availableParallelism(), MOST_THREADS, worthwhile(plan)) - 2
    const others = more > 0 ? new WorkerPair(this.memory, Array<'hasher'>(more).fill('hasher')) : undefined
    try {
      const [own, theirs] = await Promise.all([pair.run(job, onIndex, early), others?.run(job, onIndex, early)])
      return [...own, ...(theirs ?? [])]
    } finally {
      await others?.end()
    }
  }
}

function expect<K extends Answer['kind']>(kind: K, answer: Answer, task: Task): Extract<Answer, { kind: K }> {
  task.stop.throwIfAborted()
  if (answer.kind === kind) return answer as Extract<Answer, { kind: K }>
  if (answer.kind === 'failed') throw new StrataError(answer.code, answer.message)
  throw new StrataError('internal', `an intake worker answered ${answer.kind} where ${kind} was asked for`)
}

function largeOf(plan: FilePlan): string[] {
  const names: string[] = []
  for (let i = 0; i < plan.length && plan.pieces(i) > 0; i++) names.push(String(plan.file(i).entry))
  return names
}

function worthwhile(plan: FilePlan): number {
  let count = 0
  while (count < Math.min(plan.length, MOST_THREADS) && plan.file(count).size >= WORTH_A_THREAD) count++
  return count
}
