import { createReadStream } from 'node:fs'
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
const source = typeof from === 'string' ? createReadStream(from, { highWaterMark: 1024 * 1024 }) : conveyed(from)
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
