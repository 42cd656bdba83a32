import { open } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { parentPort, workerData, type MessagePort } from 'node:worker_threads'
import { asStrataError, type DiffId } from '@strata/oci'
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
const reply: InflateReply = await inflate(task, source, stop.signal).then(
  (diffId) => ({ diffId }),
  (error: unknown) => {
    const { code, message } = asStrataError(error)
    // The tar's reader speaks of archives; here the archive is a layer.
    return { code: code === 'archive_invalid' || code === 'archive_truncated' ? 'layer_invalid' : code, message }
  },
)
parentPort!.postMessage(reply)

/** In buffers that are used in turn, of which the stream has two and its reader two at most; a new one for each piece would keep the collector at work for an eighth of the time. */
async function* bytesOf(path: string): AsyncGenerator<Buffer> {
  const buffers = Array.from({ length: 5 }, () => Buffer.allocUnsafeSlow(1024 * 1024))
  await using file = await open(path)
  for (let turn = 0; ; turn++) {
    const { buffer, bytesRead } = await file.read(buffers[turn % buffers.length]!)
    if (bytesRead === 0) return
    yield buffer.subarray(0, bytesRead)
  }
}
