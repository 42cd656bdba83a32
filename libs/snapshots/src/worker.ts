import { parentPort } from 'node:worker_threads'
import { asStrataError } from '@strata/base'
import { DRIVERS } from './drivers/drivers.js'
import type { Tasks, WorkerOutcome, WorkerReply, WorkerRequest } from './threads/messages.js'
import { setStopFlag } from './threads/stop.js'
import { tasks as treeTasks } from './trees/tasks.js'

/** The code that a thread of run-worker.ts runs. A driver's code is loaded with its first task. */
async function tasksOf(owner: string): Promise<Tasks> {
  if (owner === 'trees') return treeTasks
  const row = DRIVERS.find(({ name }) => name === owner)
  if (!row) throw new Error(`no driver is named ${owner}`)
  return row.tasks()
}

async function outcomeOf({ owner, task, argument }: WorkerRequest): Promise<WorkerOutcome> {
  try {
    const work = (await tasksOf(owner))[task]
    if (!work) throw new Error(`${owner} has no task ${task}`)
    // The type of `threadFor` has checked the argument.
    return { result: await work(argument as never) }
  } catch (error) {
    const { code, message } = asStrataError(error)
    return { code, message }
  }
}

parentPort?.on('message', (request: WorkerRequest) => {
  setStopFlag(request.stop)
  void outcomeOf(request).then((outcome) => {
    // These two figures are of this thread alone.
    const { arrayBuffers, heapTotal } = process.memoryUsage()
    parentPort?.postMessage({ outcome, held: arrayBuffers + heapTotal } satisfies WorkerReply)
  })
})
