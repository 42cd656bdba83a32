import { MessageChannel, Worker } from 'node:worker_threads'
import type { Readable } from 'node:stream'
import { asStrataError, isErrorCode, StrataError } from '@strata/base'
import { type DiffId } from '@strata/oci'
import { lentChunks } from '@strata/store'
import { convey } from './conveyor.js'
import type { InflateTask } from './inflate.js'
import type { InflateJob, InflateReply } from './worker.js'

/** Threads run compiled code, also where the sources run as they are (tests). */
const FILE = new URL(import.meta.url.endsWith('.ts') ? '../dist/worker.js' : './worker.js', import.meta.url)

/**
 * `inflate` in a thread of its own, which an abort ends at its next chunk. The bytes are those of a
 * file, or a stream's of this thread, which is destroyed in the end.
 */
export async function inflateInThread(
  task: InflateTask,
  from: string | Readable,
  signal: AbortSignal,
): Promise<DiffId> {
  const stream = typeof from === 'string' ? undefined : from
  const belt = stream && new MessageChannel()
  // Its error is the iteration's to tell, which listens in its turns only.
  stream?.on('error', () => undefined)
  try {
    signal.throwIfAborted()
    const job: InflateJob = { task, from: typeof from === 'string' ? from : belt!.port2 }
    const worker = new Worker(FILE, { workerData: job, transferList: belt ? [belt.port2] : [], execArgv: [] })
    const stop = (): void => {
      worker.postMessage('stop')
      // The thread may be waiting for a store that is silent.
      stream?.destroy(asStrataError(signal.reason))
    }
    signal.addEventListener('abort', stop, { once: true })
    try {
      const replied = new Promise<InflateReply>((resolve, reject) => {
        worker.once('message', resolve)
        worker.once('error', reject)
        worker.once('exit', () => reject(new StrataError('internal', 'the inflating thread ended without an answer')))
      })
      if (belt) void convey(lentChunks(stream), belt.port1)
      const reply = await replied.finally(() => signal.throwIfAborted())
      if ('code' in reply) throw new StrataError(isErrorCode(reply.code) ? reply.code : 'internal', reply.message)
      return reply.diffId
    } finally {
      signal.removeEventListener('abort', stop)
      await worker.terminate()
    }
  } finally {
    belt?.port1.close()
    stream?.destroy()
  }
}
