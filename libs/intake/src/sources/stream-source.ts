import type { Readable } from 'node:stream'
import { failpoint, StrataError } from '@strata/base'
import { Body } from './body.js'
import { Feed } from './feed.js'
import type { Source, Taken, Task } from './source.js'
import type { ReaderSession } from '../threads/readers.js'

/** A body of any origin: the main thread fills the ring, one thread writes, the other hashes. */
export class StreamSource implements Source {
  readonly #body: Body
  #bytes = 0
  #plainBytes = 0

  constructor(stream: Readable) {
    this.#body = new Body(stream)
  }

  get interrupted(): AbortSignal {
    return this.#body.interrupted
  }

  async take(session: ReaderSession, task: Task): Promise<Taken> {
    const feed = new Feed(session, task)
    try {
      await this.#pump(feed, task)
      if (this.#plainBytes === 0) throw new StrataError('archive_invalid', 'the upload is empty')
      return { ...(await feed.end()), bytes: this.#bytes }
    } catch (error) {
      // A turn that is open ends by this.
      task.fail(error)
      throw error
    } finally {
      await feed.close()
    }
  }

  #pump(feed: Feed, task: Task): Promise<void> {
    const { bytes: limit, idleMs, layer } = task.limits
    return this.#body.pump(
      (piece) => {
        this.#plainBytes += piece.length
        if (this.#plainBytes > limit) {
          task.fail(new StrataError('limit_exceeded', `the archive has more than ${limit} bytes`))
          return undefined
        }
        return feed.write(piece)
      },
      (length) => {
        if (this.#bytes === 0) failpoint('load.first-bytes')
        this.#bytes += length
        task.report({ bytes: this.#bytes, entries: feed.entries })
      },
      { idleMs, whole: task.whole, ratio: layer.ratio, stop: task.stop },
    )
  }
}
