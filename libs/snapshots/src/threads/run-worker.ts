import { Worker } from 'node:worker_threads'
import { isErrorCode, StrataError } from '@strata/base'
import type { Tasks, WorkerReply, WorkerRequest } from './messages.js'

/** A thread loads compiled code, also where these sources run as they are (tests). */
const WORKER = new URL(import.meta.url.endsWith('.ts') ? '../../dist/worker.js' : '../worker.js', import.meta.url)

/**
 * A thread that has more bytes than this is ended, not kept: an idle thread collects no garbage, so
 * it would keep what its largest task took. A merge of 100,000 entries stays below it; where one
 * takes more, a new thread's start does not matter.
 */
const MAX_IDLE_BYTES = 64 * 1024 * 1024

/**
 * Starting a thread takes as long as merging a large image, so the last one that became free is
 * kept. It keeps no process alive.
 */
let idle: Worker | undefined

/** The tasks of one owner, each run in a thread. */
export type Thread<T extends Tasks> = <K extends keyof T & string>(
  task: K,
  argument: Parameters<T[K]>[0],
  signal?: AbortSignal,
) => Promise<Awaited<ReturnType<T[K]>>>

/**
 * Runs an owner's tasks in threads: `threadFor<typeof tasks>('overlay')`, with the type of the
 * tasks that worker.ts finds under that name. After an abort a task ends with `cancelled` as soon
 * as its thread looks up; what it was making lies in `tmp`.
 */
export function threadFor<T extends Tasks>(owner: string): Thread<T> {
  return (task, argument, signal) => run(owner, task, argument, signal) as Promise<Awaited<ReturnType<T[typeof task]>>>
}

async function run(owner: string, task: string, argument: unknown, signal?: AbortSignal): Promise<unknown> {
  const worker = takeWorker()
  worker.ref()
  const stop = new Int32Array(new SharedArrayBuffer(4))
  const done = Promise.withResolvers<WorkerReply>()
  const onAbort = (): void => void Atomics.store(stop, 0, 1)
  const onExit = (code: number): void =>
    done.reject(new StrataError('internal', `the worker ended with ${code} and no answer`))
  if (signal?.aborted) onAbort()
  signal?.addEventListener('abort', onAbort, { once: true })
  worker.on('message', done.resolve).on('error', done.reject).on('exit', onExit)
  try {
    worker.postMessage({ owner, task, argument, stop } satisfies WorkerRequest)
    const { outcome, held } = await done.promise
    giveBack(worker, held)
    if ('result' in outcome) return outcome.result
    throw new StrataError(isErrorCode(outcome.code) ? outcome.code : 'internal', outcome.message)
  } finally {
    signal?.removeEventListener('abort', onAbort)
    worker.off('message', done.resolve).off('error', done.reject).off('exit', onExit)
  }
}

function takeWorker(): Worker {
  const kept = idle
  idle = undefined
  if (kept) return kept
  // What it works on lies in typed arrays; by default short-lived objects may fill 48 MB before
  // they are looked at.
  const worker = new Worker(WORKER, {
    execArgv: [],
    trackUnmanagedFds: false,
    resourceLimits: { maxYoungGenerationSizeMb: 8 },
  })
  worker.once('exit', () => {
    if (idle === worker) idle = undefined
  })
  return worker
}

function giveBack(worker: Worker, held: number): void {
  worker.unref()
  if (idle || held > MAX_IDLE_BYTES) void worker.terminate()
  else idle = worker
}
