import { Readable } from 'node:stream'
import { StrataError } from '@strata/base'
import { lentChunks, type Lender } from '../objects/lent-chunks.js'

/**
 * Several bodies, one after the other, as one stream. Each is opened when the one before has ended,
 * so only one connection or file is open at a time. If a body fails or breaks off, so does this
 * stream. To destroy this stream destroys the open body.
 */
export class JoinedBody extends Readable implements Lender {
  #body: Readable | undefined
  #isFollowed = false

  /** `next` opens the next body; `undefined` if there is none. */
  constructor(
    first: Readable,
    private readonly next: () => Promise<Readable | undefined>,
  ) {
    super({ highWaterMark: 256 * 1024 })
    this.#body = first
  }

  async *lend(): AsyncGenerator<Buffer> {
    // Its error is the iteration's to tell.
    this.on('error', () => undefined)
    try {
      while (this.#body) {
        yield* lentChunks(this.#body)
        const body = await this.next()
        if (this.destroyed) {
          body?.destroy()
          throw new StrataError('cancelled', 'the body was closed while it was read')
        }
        this.#body = body
      }
    } catch (error) {
      throw this.errored ?? error
    } finally {
      this.destroy()
    }
  }

  override _read(): void {
    if (this.#isFollowed) this.#body?.resume()
    else if (this.#body) this.#follow(this.#body)
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#body?.destroy()
    done(error)
  }

  #follow(body: Readable): void {
    this.#isFollowed = true
    this.#body = body
    let isWhole = false
    body.on('data', (chunk: Buffer) => {
      if (!this.push(chunk)) body.pause()
    })
    body.once('end', () => {
      isWhole = true
      void this.#openNext()
    })
    body.once('error', (error) => this.destroy(error))
    body.once('close', () => {
      if (!isWhole) this.destroy(new StrataError('store_unavailable', 'a body broke off while it was read'))
    })
  }

  async #openNext(): Promise<void> {
    try {
      const body = await this.next()
      if (this.destroyed) body?.destroy()
      else if (body) this.#follow(body)
      else this.push(null)
    } catch (error) {
      this.destroy(error as Error)
    }
  }
}
