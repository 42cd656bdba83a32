import { Worker } from 'node:worker_threads'
import { isErrorCode, StrataError } from '@strata/base'
import type { Tasks, WorkerReply, WorkerRequest } from './messages.js'

/** A thread runs the compiled code, also when this file runs from source (tests). */
const WORKER = new URL(import.meta.url.endsWith('.ts') ? '../../dist/worker.js' : '../worker.js', import.meta.url)

/**
 * A thread with more memory than this is terminated, not kept. An idle thread collects no garbage,
 * so it would keep the memory of its largest task. A merge of 100,000 entries stays below this. For
 * a larger one the start of a new thread does not matter.
 */
const MAX_IDLE_BYTES = 64 * 1024 * 1024

/**
 * The last thread that became idle. A start takes as long as a merge of a large image, so one is
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
 * table that worker.ts has under that name. After an abort, a task ends with `cancelled` at its
 * next `throwIfStopped`. What it was making stays in `tmp`.
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
  // A task's data lie in typed arrays. By default, short-lived objects may fill 48 MB before they
  // are collected.
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
