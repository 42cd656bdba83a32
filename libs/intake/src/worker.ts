import { parentPort, workerData } from 'node:worker_threads'
import { TarReader, type TarSink } from '@strata/archive'
import { IndexBuilder } from '@strata/layers'
import { asStrataError, StrataError, type DiffId } from '@strata/oci'
import { EntryHasher } from './entry-hasher.js'
import { EntryWriter } from './entry-writer.js'
import { FileWorker } from './file-worker.js'
import type { Answer, FileJob, Job, LayerIndexed, SocketJob, WorkerData } from './messages.js'
import { RingAborted, RingFiller, RingReader } from './ring.js'
import { SocketSource } from './socket-source.js'
import { WholeBody } from './whole-body.js'

/** A thread of a pair. Between jobs it waits for a message; in a job it sleeps on the ring and answers once. */
const { role, ring } = workerData as WorkerData
const port = parentPort!

function send(message: Answer | LayerIndexed, bytes?: Uint8Array): void {
  port.postMessage(message, bytes === undefined ? [] : [bytes.buffer as ArrayBuffer])
}

/** Bytes with a memory of their own: that can be transferred, and a clone of a part would copy the whole. */
function owned(bytes: Buffer): Uint8Array {
  return bytes.byteLength === bytes.buffer.byteLength ? bytes : new Uint8Array(bytes)
}

function sendIndex(diffId: DiffId, index: Buffer): void {
  const bytes = owned(index)
  send({ kind: 'index', diffId, bytes }, bytes)
}

function splitter(sink: TarSink, { whole, limits }: Job): TarReader | WholeBody {
  return whole ? new WholeBody(sink) : new TarReader(sink, limits)
}

function split(reader: RingReader, sink: TarSink, job: Job): void {
  const tar = splitter(sink, job)
  reader.read((view) => tar.write(view))
  tar.end()
}

function splitSocket(socket: SocketJob, sink: TarSink, job: Job): void {
  const tar = splitter(sink, job)
  const filler = new RingFiller(ring)
  const source = new SocketSource(socket, () => filler.throwIfAborted())
  filler.run((room) => source.fill(room), (view) => tar.write(view))
  tar.end()
}

function write(job: Job): Answer {
  const writer = new EntryWriter(job.folder)
  try {
    if (job.socket === undefined) split(new RingReader(ring, 'written'), writer, job)
    else splitSocket(job.socket, writer, job)
    writer.finish()
    return { kind: 'written', large: writer.large }
  } finally {
    writer.close()
  }
}

function hash(job: Job): Answer {
  const reader = new RingReader(ring, 'hashed')
  const hasher = new EntryHasher({
    keyOf: (name) => job.keyPrefix + name,
    newIndexer: () => new IndexBuilder(job.layer),
    limits: job.layer,
    indexed: (diffId, index) => {
      reader.indexLeaves()
      sendIndex(diffId, index)
    },
    counted: () => reader.countEntry(),
  })
  split(reader, hasher, job)
  const { bytes, entries } = hasher.listing()
  return { kind: 'hashed', listing: owned(bytes), entries }
}

let files: FileWorker | undefined

function takeFile(job: FileJob): Answer {
  files ??= new FileWorker(sendIndex)
  if (job.kind === 'plan') return files.plan(job)
  if (job.kind === 'copy') return files.copy(job)
  const { listing, entries } = files.list(job)
  return { kind: 'hashed', listing: owned(listing), entries }
}

function refusal(error: unknown): Answer {
  if (error instanceof RingAborted) return { kind: 'aborted' }
  const known = asStrataError(error)
  if (known.code !== 'internal' || !(error instanceof Error && 'syscall' in error)) return { kind: 'failed', code: known.code, message: known.message }
  const full = 'code' in error && error.code === 'EDQUOT'
  const fault = new StrataError(full ? 'storage_full' : 'store_unavailable', `the archive cannot be written: ${error.message}`)
  return { kind: 'failed', code: fault.code, message: fault.message }
}

port.on('message', (job: Job | FileJob) => {
  let answer: Answer
  try {
    if ('kind' in job) answer = takeFile(job)
    else answer = role === 'writer' ? write(job) : hash(job)
  } catch (error) {
    answer = refusal(error)
  }
  send(answer, answer.kind === 'hashed' ? answer.listing : undefined)
})
