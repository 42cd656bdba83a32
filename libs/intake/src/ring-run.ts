import { StrataError } from '@strata/oci'
import type { Answer, LayerIndexed, SocketJob } from './messages.js'
import type { Taken, Task } from './mouth.js'
import { RingWriter } from './ring.js'
import type { WorkerPair } from './worker-pairs.js'

/** An archive's way through the ring, from when the pair begins until it is done with it, well or badly. `fill` puts the bytes in, or waits while the writer takes them from its socket. */
export async function takeByRing(pair: WorkerPair, task: Task, fill: (ring: RingWriter) => Promise<void>, socket?: SocketJob): Promise<Omit<Taken, 'bytes'>> {
  const ring = new RingWriter(pair.ring)
  const abort = (): void => ring.abort()
  task.stop.addEventListener('abort', abort)
  const storing = new Set<Promise<void>>()
  const { keyPrefix, folder, limits, whole } = task
  const answered = pair.run(
    { keyPrefix, folder, limits: { ...limits.layer, entries: limits.entries }, layer: limits.layer, whole, ...(socket === undefined ? {} : { socket }) },
    (index: LayerIndexed) => {
      const stored = task.keepIndex(index).then(() => {
        ring.indexStored()
        storing.delete(stored)
      })
      storing.add(stored)
    },
    (answer) => {
      if (answer.kind === 'failed') task.fail(new StrataError(answer.code, answer.message))
    },
  )
  const written = task.write(pair.ring)
  try {
    if (task.stop.aborted) abort()
    await fill(ring)
  } catch (error) {
    task.fail(error)
  } finally {
    // Also after a failure: the pair is free, and nothing is written any more, only when all have answered.
    await answered
    await written
    await Promise.all(storing)
    task.stop.removeEventListener('abort', abort)
  }
  task.stop.throwIfAborted()
  return taken(await answered)
}

function taken(answers: Answer[]): Omit<Taken, 'bytes'> {
  const written = answers.find((answer) => answer.kind === 'written')
  const hashed = answers.find((answer) => answer.kind === 'hashed')
  if (!hashed) throw new StrataError('internal', 'an intake worker gave no answer')
  return { large: written?.large ?? [], listing: hashed.listing, entries: hashed.entries }
}
