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
 * A thread that has gained more memory than this since its start gets no other task. An idle thread
 * collects no garbage, so it would keep what its largest layer took.
 */
const MAX_GAINED_BYTES = 12 * 1024 * 1024

/**
 * A thread for `inflate`, one task after another. It keeps no process alive between tasks, and
 * nothing of a task but garbage.
 */
export class InflateThread {
  readonly #worker = new Worker(FILE, {
    name: 'inflate',
    execArgv: [],
    resourceLimits: { maxYoungGenerationSizeMb: 8 },
  })
  #isFit = true

  constructor() {
    // Without a listener the error would end the process; the task under way has its own.
    this.#worker.on('error', () => undefined)
    this.#worker.once('exit', () => (this.#isFit = false))
    this.#worker.unref()
  }

  /** Whether it may get another task: it lives, has little memory, and did not fail in its last. */
  get isFit(): boolean {
    return this.#isFit
  }

  /**
   * `inflate` in the thread. The bytes are those of a file, or a stream's of the calling thread,
   * which is destroyed in the end. An abort ends the task at its next chunk; it rejects when the
   * thread has cleaned up.
   */
  async inflate(task: InflateTask, from: string | Readable, signal: AbortSignal): Promise<DiffId> {
    const stream = typeof from === 'string' ? undefined : from
    const belt = stream && new MessageChannel()
    const worker = this.#worker
    const replied = Promise.withResolvers<InflateReply>()
    const onExit = (): void =>
      replied.reject(new StrataError('internal', 'the inflating thread ended without an answer'))
    const stop = (): void => {
      worker.postMessage('stop')
      // The thread may be waiting for a store that is silent.
      stream?.destroy(asStrataError(signal.reason))
    }
    worker.ref()
    worker.on('message', replied.resolve).on('error', replied.reject).on('exit', onExit)
    signal.addEventListener('abort', stop, { once: true })
    try {
      const job: InflateJob = { task, from: typeof from === 'string' ? from : belt!.port2 }
      worker.postMessage(job, belt ? [belt.port2] : [])
      if (signal.aborted) stop()
      if (belt) void convey(lentChunks(stream), belt.port1)
      const { outcome, gained } = await replied.promise
      this.#isFit &&= gained <= MAX_GAINED_BYTES
      signal.throwIfAborted()
      if ('diffId' in outcome) return outcome.diffId
      // Nobody knows what state that has left the thread in.
      this.#isFit &&= outcome.code !== 'internal'
      throw new StrataError(isErrorCode(outcome.code) ? outcome.code : 'internal', outcome.message)
    } catch (error) {
      signal.throwIfAborted()
      throw error
    } finally {
      signal.removeEventListener('abort', stop)
      worker.off('message', replied.resolve).off('error', replied.reject).off('exit', onExit)
      worker.unref()
      belt?.port1.close()
      stream?.destroy()
    }
  }

  async end(): Promise<void> {
    this.#isFit = false
    await this.#worker.terminate()
  }
}
