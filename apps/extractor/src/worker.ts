import { open } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { parentPort, workerData, type MessagePort } from 'node:worker_threads'
import { asStrataError } from '@strata/base'
import { type DiffId } from '@strata/oci'
import { conveyed } from './conveyor.js'
import { inflate, type InflateTask } from './inflate.js'

/** Where the blob's bytes are: in a file, or on their way through a port. */
export interface InflateJob {
  readonly task: InflateTask
  readonly from: string | MessagePort
}
export type InflateReply = { readonly diffId: DiffId } | { readonly code: string; readonly message: string }

const { task, from } = workerData as InflateJob
const source = typeof from === 'string' ? Readable.from(bytesOf(from), { highWaterMark: 1 }) : conveyed(from)
// A thread that is ended from outside would keep what zlib has allocated.
const stop = new AbortController()
parentPort!.once('message', () => stop.abort())
// And one that waits for nothing any more is to end, not to wait for this.
parentPort!.unref()
const reply: InflateReply = await inflate(task, source, stop.signal).then(
  (diffId) => ({ diffId }),
  (error: unknown) => {
    const { code, message } = asStrataError(error)
    // The tar's reader speaks of archives; here the archive is a layer.
    return { code: code === 'archive_invalid' || code === 'archive_truncated' ? 'layer_invalid' : code, message }
  },
)
parentPort!.postMessage(reply)

/**
 * In full buffers that are used in turn, of which the stream has two and its reader two at most; a
 * new one for each piece would keep the collector at work for an eighth of the time.
 */
async function* bytesOf(path: string): AsyncGenerator<Buffer> {
  const buffers = Array.from({ length: 5 }, () => Buffer.allocUnsafeSlow(1024 * 1024))
  await using file = await open(path)
  for (let turn = 0; ; turn++) {
    const buffer = buffers[turn % buffers.length]!
    let length = 0
    for (let read = -1; length < buffer.length && read !== 0; length += read)
      read = (await file.read(buffer, length)).bytesRead
    if (length === 0) return
    yield buffer.subarray(0, length)
  }
}
