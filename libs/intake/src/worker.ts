import { parentPort, workerData } from 'node:worker_threads'
import { TarReader, type TarSink } from '@strata/archive'
import { asStrataError, StrataError } from '@strata/base'
import { type DiffId } from '@strata/oci'
import { EntryHasher } from './threads/entry-hasher.js'
import { EntryWriter } from './threads/entry-writer.js'
import { FileWorker } from './threads/file-worker.js'
import { LayerIndexer } from './threads/layer-indexer.js'
import type { Answer, Answered, Drop, FileJob, Job, LayerIndexed, SocketJob, WorkerData } from './threads/messages.js'
import { RingAborted, RingFiller, RingReader } from './threads/ring.js'
import { SocketReader } from './threads/socket-reader.js'
import { WholeBody } from './threads/whole-body.js'

/**
 * A thread of a pair. Between jobs it waits for a message; in a job it sleeps on the ring and
 * answers once. It never waits for a client for long.
 */
const { role, ring, memory } = workerData as WorkerData
const port = parentPort!

function send(message: Answered | LayerIndexed, bytes?: Uint8Array): void {
  port.postMessage(message, bytes === undefined ? [] : [bytes.buffer as ArrayBuffer])
}

/**
 * Bytes with a memory of their own: that can be transferred, and a clone of a part would copy the
 * whole.
 */
function owned(bytes: Buffer): Uint8Array {
  return bytes.byteLength === bytes.buffer.byteLength ? bytes : new Uint8Array(bytes)
}

function sendIndex(diffId: DiffId, index: Buffer): void {
  const bytes = owned(index)
  send({ kind: 'index', diffId, bytes }, bytes)
}

/** What this thread has read of an upload so far. It outlives the turns. */
interface Reading {
  turn(job: Job): Answer
  close(): void
}

const readings = new Map<number, Reading>()
const PAUSED_ANSWER: Answer = { kind: 'paused', rest: new Uint8Array() }

function splitter(sink: TarSink, { whole, limits }: Job): TarReader | WholeBody {
  return whole ? new WholeBody(sink) : new TarReader(sink, limits)
}

function readSocket(socket: SocketJob, each: (view: Buffer) => void): Uint8Array | undefined {
  const filler = new RingFiller(ring)
  const source = new SocketReader(socket, filler)
  return filler.run((room) => source.fill(room), each)
}

function beginWriting(job: Job): Reading {
  const writer = new EntryWriter(job.folder)
  const tar = splitter(writer, job)
  const reader = new RingReader(ring, 'written')
  return {
    turn: ({ socket }) => {
      if (socket !== undefined) {
        const rest = readSocket(socket, (view) => tar.write(view))
        if (rest !== undefined) return { kind: 'paused', rest }
      } else if (!reader.read((view) => tar.write(view))) return PAUSED_ANSWER
      tar.end()
      writer.finish()
      return { kind: 'written', large: writer.large }
    },
    close: () => writer.close(),
  }
}

function beginHashing(job: Job): Reading {
  const reader = new RingReader(ring, 'hashed')
  const hasher = new EntryHasher({
    keyOf: (name) => job.keyPrefix + name,
    newIndexer: () => new LayerIndexer(job.layer, memory),
    limits: job.layer,
    indexed: (diffId, index) => {
      reader.indexLeaves()
      sendIndex(diffId, index)
    },
    counted: () => reader.countEntry(),
  })
  const tar = splitter(hasher, job)
  return {
    turn: () => {
      if (!reader.read((view) => tar.write(view))) return PAUSED_ANSWER
      tar.end()
      const { bytes, entries } = hasher.listing()
      return { kind: 'hashed', listing: owned(bytes), entries }
    },
    close: () => hasher.close(),
  }
}

function readOn(job: Job): Answer {
  try {
    const known = readings.get(job.session)
    const reading = known ?? (role === 'writer' ? beginWriting(job) : beginHashing(job))
    if (known === undefined) readings.set(job.session, reading)
    const answer = reading.turn(job)
    if (answer.kind !== 'paused') drop(job.session)
    return answer
  } catch (error) {
    drop(job.session)
    throw error
  }
}

function drop(session: number): void {
  readings.get(session)?.close()
  readings.delete(session)
}

let files: FileWorker | undefined

function takeFile(job: FileJob): Answer {
  files ??= new FileWorker(sendIndex, memory)
  if (job.kind === 'plan') return files.plan(job)
  if (job.kind === 'copy') return files.copy(job)
  const { listing, entries } = files.list(job)
  return { kind: 'hashed', listing: owned(listing), entries }
}

function refusal(error: unknown): Answer {
  if (error instanceof RingAborted) return { kind: 'aborted' }
  const known = asStrataError(error)
  if (known.code !== 'internal' || !(error instanceof Error && 'syscall' in error))
    return { kind: 'failed', code: known.code, message: known.message }
  const full = 'code' in error && error.code === 'EDQUOT'
  const fault = new StrataError(
    full ? 'storage_full' : 'store_unavailable',
    `the archive cannot be written: ${error.message}`,
  )
  return { kind: 'failed', code: fault.code, message: fault.message }
}

port.on('message', (job: Job | FileJob | Drop) => {
  if ('kind' in job && job.kind === 'drop') return drop(job.session)
  let answer: Answer
  try {
    answer = 'kind' in job ? takeFile(job) : readOn(job)
  } catch (error) {
    answer = refusal(error)
  }
  // Both are this thread's own.
  const { arrayBuffers, heapTotal } = process.memoryUsage()
  send(
    { kind: 'answered', answer, held: arrayBuffers + heapTotal },
    answer.kind === 'hashed' ? answer.listing : undefined,
  )
})
