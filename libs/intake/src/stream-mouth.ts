import type { Readable } from 'node:stream'
import { step, StrataError } from '@strata/oci'
import { Body } from './body.js'
import type { Mouth, Taken, Task } from './mouth.js'
import { takeByRing } from './ring-run.js'
import type { RingWriter } from './ring.js'
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
    const taken = await takeByRing(pair, task, (ring) => this.fill(ring, task))
    return { ...taken, bytes: this.bytes }
  }

  private async fill(ring: RingWriter, task: Task): Promise<void> {
    const { bytes: limit, idleMs, layer } = task.limits
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
      { idleMs, whole: task.whole, ratio: layer.ratio, stop: task.stop },
    )
    if (this.plainBytes === 0) throw new StrataError('archive_invalid', 'the upload is empty')
    await ring.end()
  }
}
