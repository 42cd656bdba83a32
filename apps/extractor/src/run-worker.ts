import { Worker } from 'node:worker_threads'
import { isErrorCode, StrataError } from '@strata/oci'
import type { InflateTask } from './inflate.js'
import type { InflateReply } from './worker.js'

/** Threads run compiled code, also where the sources run as they are (tests). */
const FILE = new URL(import.meta.url.endsWith('.ts') ? '../dist/worker.js' : './worker.js', import.meta.url)

/** `inflate` in a thread of its own, which an abort ends wherever it is. */
export async function inflateInThread(task: InflateTask, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted()
  const worker = new Worker(FILE, { workerData: task, execArgv: [] })
  const stop = (): void => void worker.terminate()
  signal.addEventListener('abort', stop, { once: true })
  try {
    const reply = await new Promise<InflateReply>((resolve, reject) => {
      worker.once('message', resolve)
      worker.once('error', reject)
      worker.once('exit', () => reject(signal.aborted ? (signal.reason as Error) : new StrataError('internal', 'the inflating thread ended without an answer')))
    })
    if ('code' in reply) throw new StrataError(isErrorCode(reply.code) ? reply.code : 'internal', reply.message)
  } finally {
    signal.removeEventListener('abort', stop)
  }
}
