import type { Descriptor, Digest } from '@strata/oci'
import { MAX_TOLD_LAYERS, type JobContext, type LayerProgress } from '@strata/queue'

/** The record of the request is written so often at most. */
const WRITE_EVERY_MS = 500

/**
 * What the request's record says of a pull: bytes, in all and of each layer. It is for people: if
 * Redis does not answer, the pull goes on.
 */
export class PullProgress {
  readonly #layers = new Map<Digest, { -readonly [K in keyof LayerProgress]: LayerProgress[K] }>()
  readonly #told: LayerProgress[] = []
  readonly #timer: NodeJS.Timeout
  #total = 0
  #bytes = 0
  #step = 'pulling'
  #isWritten = false

  /** `blobs`: all that the pull is for. */
  constructor(
    private readonly context: Pick<JobContext, 'progress'>,
    private readonly host: string,
    blobs: Iterable<Descriptor>,
  ) {
    for (const { digest, size } of blobs) {
      this.#layers.set(digest, { digest, size, bytes: 0, state: 'waiting' })
      this.#total += size
    }
    this.#told = [...this.#layers.values()].sort((one, other) => other.size - one.size).slice(0, MAX_TOLD_LAYERS)
    this.#timer = setInterval(() => void this.#write(), WRITE_EVERY_MS)
    void this.#write()
  }

  /** The blob was here. */
  known(digest: Digest): void {
    this.#set(digest, 'known')
  }

  /** The blob begins to come, of which so many bytes have come already. */
  pulling(digest: Digest, bytes: number): void {
    this.#set(digest, 'pulling', bytes)
  }

  came(digest: Digest, bytes: number): void {
    this.#step = 'pulling'
    this.#set(digest, 'pulling', (this.#layers.get(digest)?.bytes ?? 0) + bytes)
  }

  pulled(digest: Digest): void {
    this.#set(digest, 'pulled')
  }

  /** The registry asks for a pause, or does not answer. */
  waits(why: string): void {
    this.#step = `waiting for ${this.host}: ${why}`.slice(0, 300)
    this.#isWritten = false
  }

  /** Writes the last state, and ends. */
  async close(): Promise<void> {
    clearInterval(this.#timer)
    await this.#write()
  }

  #set(digest: Digest, state: LayerProgress['state'], bytes?: number): void {
    const layer = this.#layers.get(digest)
    if (!layer) return
    const now = bytes ?? layer.size
    this.#bytes += now - layer.bytes
    layer.bytes = now
    layer.state = state
    this.#isWritten = false
  }

  async #write(): Promise<void> {
    if (this.#isWritten) return
    this.#isWritten = true
    const [bytes, total] = [this.#bytes, this.#total]
    await this.context
      .progress({ state: 'active', step: this.#step, bytes, total, layers: this.#told })
      .catch(() => undefined)
  }
}
