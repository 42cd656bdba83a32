import type { Readable } from 'node:stream'
import { type DiffId } from '@strata/oci'
import type { InflateTask } from './inflate.js'
import { InflateThread } from './thread.js'

/** How long a thread waits for its next task until it ends. */
export const IDLE_MS = 60_000

/**
 * Threads that inflate layers, at most `most`. To start one takes longer than a small layer, so
 * they stay for the next.
 *
 * - A task gets an idle thread, else a new one, else it waits in line. A task that is aborted in
 *   line leaves it.
 * - The thread that became idle last is taken first. So a thread that is not needed ends, `IDLE_MS`
 *   after its last task.
 * - A thread that is not fit for another task (`InflateThread.isFit`) ends at once.
 */
export class InflateThreads {
  readonly #idle: { readonly thread: InflateThread; readonly end: NodeJS.Timeout }[] = []
  readonly #line: (() => void)[] = []
  /** Tasks that have a thread, or are about to take one. */
  #busy = 0
  #isClosed = false

  constructor(private readonly most: number) {}

  /** As `InflateThread.inflate`. */
  async inflate(task: InflateTask, from: string | Readable, signal: AbortSignal): Promise<DiffId> {
    const stream = typeof from === 'string' ? undefined : from
    // The error is told by the iteration, which begins when there is a thread.
    stream?.on('error', () => undefined)
    try {
      signal.throwIfAborted()
      if (this.#busy < this.most) this.#busy++
      else await this.#inLine(signal)
      const thread = this.#take() ?? new InflateThread()
      try {
        return await thread.inflate(task, from, signal)
      } finally {
        await this.#giveBack(thread)
      }
    } finally {
      stream?.destroy()
    }
  }

  /** Ends idle threads now, others after their task. */
  async close(): Promise<void> {
    this.#isClosed = true
    await Promise.all(
      this.#idle.splice(0).map(({ thread, end }) => {
        clearTimeout(end)
        return thread.end()
      }),
    )
  }

  #take(): InflateThread | undefined {
    for (let last = this.#idle.pop(); last; last = this.#idle.pop()) {
      clearTimeout(last.end)
      // One that waited for a task may have died.
      if (last.thread.isFit) return last.thread
    }
    return undefined
  }

  async #giveBack(thread: InflateThread): Promise<void> {
    if (thread.isFit && !this.#isClosed) this.#keep(thread)
    else await thread.end()
    const next = this.#line.shift()
    if (next) next()
    else this.#busy--
  }

  #keep(thread: InflateThread): void {
    const end = setTimeout(() => {
      this.#idle.splice(this.#idle.indexOf(kept), 1)
      void thread.end()
    }, IDLE_MS)
    end.unref()
    const kept = { thread, end }
    this.#idle.push(kept)
  }

  /** Resolves with the place of a task that has ended. */
  async #inLine(signal: AbortSignal): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<undefined>()
    const next = (): void => resolve(undefined)
    const leave = (): void => {
      const at = this.#line.indexOf(next)
      if (at < 0) return
      this.#line.splice(at, 1)
      reject(signal.reason as Error)
    }
    this.#line.push(next)
    signal.addEventListener('abort', leave)
    try {
      await promise
    } finally {
      signal.removeEventListener('abort', leave)
    }
  }
}
