import { open } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { parentPort, type MessagePort } from 'node:worker_threads'
import { asStrataError } from '@strata/base'
import { type DiffId } from '@strata/oci'
import { freeBuffer } from './chunks.js'
import { conveyed } from './conveyor.js'
import { inflate, type InflateTask } from './inflate.js'

/** Where the blob's bytes are: in a file, or on their way through a port. */
export interface InflateJob {
  readonly task: InflateTask
  readonly from: string | MessagePort
}
type InflateOutcome = { readonly diffId: DiffId } | { readonly code: string; readonly message: string }
export interface InflateReply {
  readonly outcome: InflateOutcome
  /** Bytes that the thread has then, more than when it had started. */
  readonly gained: number
}

const port = parentPort!
const atStart = held()
/** Of the job under way. Nobody sends a job before the reply to the one before. */
let stop: AbortController | undefined

port.on('message', (message: InflateJob | 'stop') => {
  if (message === 'stop') return stop?.abort()
  stop = new AbortController()
  void outcomeOf(message, stop.signal).then((outcome) => {
    stop = undefined
    port.postMessage({ outcome, gained: held() - atStart } satisfies InflateReply)
  })
})

function held(): number {
  // These two figures are of this thread alone.
  const { arrayBuffers, heapTotal } = process.memoryUsage()
  return arrayBuffers + heapTotal
}

async function outcomeOf({ task, from }: InflateJob, signal: AbortSignal): Promise<InflateOutcome> {
  const buffers: Buffer<ArrayBuffer>[] = []
  const bytes = typeof from === 'string' ? bytesOf(from, buffers) : undefined
  const source = typeof from === 'string' ? Readable.from(bytes!, { highWaterMark: 1 }) : conveyed(from)
  try {
    return { diffId: await inflate(task, source, signal) }
  } catch (error) {
    const { code, message } = asStrataError(error)
    // The tar's reader speaks of archives; here the archive is a layer.
    return { code: code === 'archive_invalid' || code === 'archive_truncated' ? 'layer_invalid' : code, message }
  } finally {
    // An abort may have left a read under way.
    await bytes?.return(undefined)
    buffers.forEach(freeBuffer)
  }
}

/**
 * In full buffers that are used in turn, of which the stream has two and its reader two at most; a
 * new one for each piece would keep the collector at work for an eighth of the time.
 */
async function* bytesOf(path: string, buffers: Buffer<ArrayBuffer>[]): AsyncGenerator<Buffer> {
  await using file = await open(path)
  for (let turn = 0; ; turn = (turn + 1) % BUFFERS) {
    const buffer = (buffers[turn] ??= Buffer.allocUnsafeSlow(BUFFER))
    let length = 0
    for (let read = -1; length < buffer.length && read !== 0; length += read)
      read = (await file.read(buffer, length)).bytesRead
    if (length === 0) return
    yield buffer.subarray(0, length)
  }
}
const [BUFFERS, BUFFER] = [5, 1024 * 1024]
