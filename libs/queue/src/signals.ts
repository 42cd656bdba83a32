import type { Redis } from 'ioredis'
import { CHANNEL, KEY } from './keys.js'
import { decodeFailure } from './failure.js'
import { workerConnection, type RedisUrl } from './connection.js'

/**
 * News from the other processes: which journal record changed, which request is to stop. One subscription a process.
 *
 * A message may be lost (pub/sub keeps none), so whoever listens also reads the record itself: at the start, and whenever `onReconnect` says
 * that something may have been missed.
 */
export class Signals {
  readonly #subscriber: Redis
  readonly #reader: Redis
  readonly #changed = new Map<string, Set<() => void>>()
  readonly #cancelled = new Set<(id: string) => void>()
  readonly #watched = new Map<string, Set<AbortController>>()

  constructor(url: RedisUrl) {
    this.#subscriber = workerConnection(url)
    this.#reader = workerConnection(url)
    this.#subscriber.on('message', (channel: string, id: string) => {
      if (channel === CHANNEL.changed) this.#changed.get(id)?.forEach((listener) => listener())
      else void this.#check(id)
    })
    this.#subscriber.on('ready', () => {
      this.#changed.forEach((listeners) => listeners.forEach((listener) => listener()))
      this.#watched.forEach((_, id) => void this.#check(id))
    })
    void this.#subscriber.subscribe(CHANNEL.changed, CHANNEL.cancelled).catch(() => undefined)
  }

  /** Calls `listener` at each change of the record `id`, and once after each reconnection. Gives the function that ends it. */
  onChange(id: string, listener: () => void): () => void {
    const listeners = this.#changed.get(id) ?? new Set()
    this.#changed.set(id, listeners.add(listener))
    return () => {
      listeners.delete(listener)
      if (listeners.size === 0) this.#changed.delete(id)
    }
  }

  /** Calls `listener` for each request whose work is to stop, while this process is connected. */
  onCancelled(listener: (id: string) => void): void {
    this.#cancelled.add(listener)
  }

  /** A signal that aborts, with the reason, when the request's work is to stop (`cancelled`, or the failure of a part of it), or was to already. */
  async watchCancel(id: string): Promise<{ controller: AbortController; done: () => void }> {
    const controller = new AbortController()
    const watchers = this.#watched.get(id) ?? new Set()
    this.#watched.set(id, watchers.add(controller))
    await this.#check(id)
    const done = (): void => {
      watchers.delete(controller)
      if (watchers.size === 0) this.#watched.delete(id)
    }
    return { controller, done }
  }

  async #check(id: string): Promise<void> {
    const reason = await this.#reader.get(KEY.cancel(id)).catch(() => null)
    if (reason === null) return
    this.#watched.get(id)?.forEach((controller) => controller.abort(decodeFailure(reason)))
    this.#cancelled.forEach((listener) => listener(id))
  }

  close(): void {
    this.#subscriber.disconnect()
    this.#reader.disconnect()
  }
}
