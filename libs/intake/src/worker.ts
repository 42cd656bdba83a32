import { parentPort, workerData } from 'node:worker_threads'
import { TarReader, type TarSink } from '@strata/archive'
import { IndexBuilder } from '@strata/layers'
import { asStrataError, StrataError } from '@strata/oci'
import { EntryHasher } from './entry-hasher.js'
import { EntryWriter } from './entry-writer.js'
import type { Answer, Job, LayerIndexed, WorkerData } from './messages.js'
import { RingAborted, RingReader } from './ring.js'

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

function split(reader: RingReader, sink: TarSink, job: Job): void {
  const tar = new TarReader(sink, { entries: job.entries })
  reader.read((view) => tar.write(view))
  tar.end()
}

function write(job: Job): Answer {
  const writer = new EntryWriter(job.folder)
  try {
    split(new RingReader(ring, 'written'), writer, job)
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
    newIndexer: () => new IndexBuilder(),
    indexed: (diffId, index) => {
      const bytes = owned(index)
      reader.indexLeaves()
      send({ kind: 'index', diffId, bytes }, bytes)
    },
    counted: () => reader.countEntry(),
  })
  split(reader, hasher, job)
  const { bytes, entries } = hasher.listing()
  return { kind: 'hashed', listing: owned(bytes), entries }
}

function refusal(error: unknown): Answer {
  if (error instanceof RingAborted) return { kind: 'aborted' }
  const known = asStrataError(error)
  if (known.code !== 'internal' || !(error instanceof Error && 'syscall' in error)) return { kind: 'failed', code: known.code, message: known.message }
  const full = 'code' in error && error.code === 'EDQUOT'
  const fault = new StrataError(full ? 'storage_full' : 'store_unavailable', `the archive cannot be written: ${error.message}`)
  return { kind: 'failed', code: fault.code, message: fault.message }
}

port.on('message', (job: Job) => {
  let answer: Answer
  try {
    answer = role === 'writer' ? write(job) : hash(job)
  } catch (error) {
    answer = refusal(error)
  }
  send(answer, answer.kind === 'hashed' ? answer.listing : undefined)
})
