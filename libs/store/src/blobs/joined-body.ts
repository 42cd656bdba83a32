import { Readable } from 'node:stream'
import { StrataError } from '@strata/base'

/**
 * Bodies one behind the other, as one stream. Each is opened when the one before has ended, so that
 * one connection or file is open at a time. If one fails or breaks off, so does the whole; whoever
 * destroys the whole destroys the one that is open.
 */
export class JoinedBody extends Readable {
  #body: Readable | undefined

  /** `next` gives the body behind the last one, `undefined` if there is none. */
  constructor(
    first: Readable,
    private readonly next: () => Promise<Readable | undefined>,
  ) {
    super({ highWaterMark: 256 * 1024 })
    this.#follow(first)
  }

  override _read(): void {
    this.#body?.resume()
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#body?.destroy()
    done(error)
  }

  #follow(body: Readable): void {
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
