import { createReadStream } from 'node:fs'
import { parentPort, workerData } from 'node:worker_threads'
import { asStrataError } from '@strata/oci'
import { inflate, type InflateTask } from './inflate.js'

export type InflateReply = { readonly done: true } | { readonly code: string; readonly message: string }

const task = workerData as InflateTask
const reply: InflateReply = await inflate(task, createReadStream(task.source, { highWaterMark: 1024 * 1024 })).then(
  () => ({ done: true }) as const,
  (error: unknown) => {
    const { code, message } = asStrataError(error)
    // The tar's reader speaks of archives; here the archive is a layer.
    return { code: code === 'archive_invalid' || code === 'archive_truncated' ? 'layer_invalid' : code, message }
  },
)
parentPort?.postMessage(reply)
