import type { Readable } from 'node:stream'
import { step, StrataError } from '@strata/oci'
import { Body } from './body.js'
import type { Answer } from './messages.js'
import type { Mouth, Taken, Task } from './mouth.js'
import { RingWriter } from './ring.js'
import type { WorkerPair } from './worker-pairs.js'

/** A body of any origin: the main thread fills the ring, one thread writes, the other hashes. */
export class StreamMouth implements Mouth {
  private readonly body: Body
  private bytes = 0
  private plainBytes = 0

  constructor(stream: Readable) {
    this.body = new Body(stream)
  }

  get interrupted(): AbortSignal {
    return this.body.interrupted
  }

  async take(pair: WorkerPair, task: Task): Promise<Taken> {
    const ring = new RingWriter(pair.ring)
    const abort = (): void => ring.abort()
    task.stop.addEventListener('abort', abort)
    const storing = new Set<Promise<void>>()
    const { keyPrefix, folder, limits } = task
    const answered = pair.run(
      { keyPrefix, folder, entries: limits.entries },
      (index) => {
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
      await this.fill(ring, task)
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
    return this.taken(await answered)
  }

  private async fill(ring: RingWriter, task: Task): Promise<void> {
    const { bytes: limit, idleMs } = task.limits
    await this.body.pump(
      (piece) => {
        this.plainBytes += piece.length
        if (this.plainBytes > limit) {
          task.fail(new StrataError('limit_exceeded', `the archive has more than ${limit} bytes`))
          return undefined
        }
        return ring.write(piece)
      },
      (length) => {
        if (this.bytes === 0) step('load.first-bytes')
        this.bytes += length
        task.report({ bytes: this.bytes, entries: ring.entries })
      },
      idleMs,
      task.stop,
    )
    if (this.plainBytes === 0) throw new StrataError('archive_invalid', 'the upload is empty')
    await ring.end()
  }

  private taken(answers: Answer[]): Taken {
    const written = answers.find((answer) => answer.kind === 'written')
    const hashed = answers.find((answer) => answer.kind === 'hashed')
    if (!hashed) throw new StrataError('internal', 'an intake worker gave no answer')
    return { large: written?.large ?? [], listing: hashed.listing, entries: hashed.entries, bytes: this.bytes }
  }
}
