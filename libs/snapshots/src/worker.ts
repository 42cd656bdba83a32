import { parentPort } from 'node:worker_threads'
import { asStrataError } from '@strata/base'
import { writeErofsRoot } from './erofs/write-root.js'
import { unpackLayers } from './overlay/unpack.js'
import { markSynced } from './overlay/synced.js'
import { setStopFlag } from './stop.js'
import { removeTree, treeUsage } from './tree.js'
import type { WorkerOutcome, WorkerReply, WorkerRequest, WorkerTask } from './worker-task.js'

function run(task: WorkerTask): WorkerOutcome {
  switch (task.task) {
    case 'erofs':
      return { result: writeErofsRoot(task.layers, task.chainId, task.folder) }
    case 'unpack':
      return { result: unpackLayers(task.layers, task.missing) }
    case 'synced':
      return { result: markSynced(task.marks, task.folder) }
    case 'remove':
      return { result: removeTree(task.folder) }
    case 'usage':
      return { result: treeUsage(task.folder) }
  }
}

function outcomeOf(task: WorkerTask): WorkerOutcome {
  try {
    return run(task)
  } catch (error) {
    const { code, message } = asStrataError(error)
    return { code, message }
  }
}

parentPort?.on('message', ({ task, stop }: WorkerRequest) => {
  setStopFlag(stop)
  const outcome = outcomeOf(task)
  // Both are this thread's own.
  const { arrayBuffers, heapTotal } = process.memoryUsage()
  parentPort?.postMessage({ outcome, held: arrayBuffers + heapTotal } satisfies WorkerReply)
})
