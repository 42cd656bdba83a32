import type { Redis } from 'ioredis'
import { CHANNEL, KEY } from './keys.js'
import { decodeFailure } from './jobs/failure.js'
import { subscriberConnection, workerConnection, type RedisUrl } from './connection.js'

/**
 * News from the other processes: which journal record changed, which request is to stop. One
 * subscription a process.
 *
 * Redis keeps no messages, so one may be lost: while the connection is away, between `ready` and
 * the answer to SUBSCRIBE, or on a connection that has died without a word. So every listener is
 * called, and reads for itself:
 *   - when Redis has answered SUBSCRIBE, at the start and after each reconnection: what is
 *     published later arrives;
 *   - every `REREAD_MS` whatever happened. This also repeats a read that failed and a SUBSCRIBE
 *     that was refused.
 */
export class Signals {
  readonly #subscriber: Redis
  readonly #reader: Redis
  readonly #changed = new Map<string, Set<() => void>>()
  readonly #cancelled = new Set<(id: string) => void>()
  readonly #watched = new Map<string, Set<AbortController>>()
  readonly #rereads: NodeJS.Timeout
  #subscribed = false

  constructor(url: RedisUrl, rereadMs = REREAD_MS) {
    this.#subscriber = subscriberConnection(url)
    this.#reader = workerConnection(url)
    this.#subscriber.on('message', (channel: string, id: string) => {
      if (channel === CHANNEL.changed) this.#changed.get(id)?.forEach((listener) => listener())
      else void this.#check(id)
    })
    this.#subscriber.on('close', () => (this.#subscribed = false))
    this.#subscriber.on('ready', () => void this.#subscribe())
    this.#rereads = setInterval(() => void (this.#subscribed ? this.#reread() : this.#subscribe()), rereadMs)
    this.#rereads.unref()
  }

  async #subscribe(): Promise<void> {
    if (this.#subscriber.status !== 'ready') return
    try {
      await this.#subscriber.subscribe(CHANNEL.changed, CHANNEL.cancelled)
      this.#subscribed = true
    } catch {
      // Refused, or the connection is gone again: the timer or the next `ready` comes here once
      // more.
    }
    this.#reread()
  }

  #reread(): void {
    this.#changed.forEach((listeners) => listeners.forEach((listener) => listener()))
    this.#watched.forEach((_, id) => void this.#check(id))
  }

  /**
   * Calls `listener` at each change of the record `id`, and whenever one may have been missed.
   * Gives the function that ends it.
   */
  onChange(id: string, listener: () => void): () => void {
    const listeners = this.#changed.get(id) ?? new Set()
    this.#changed.set(id, listeners.add(listener))
    return () => {
      listeners.delete(listener)
      if (listeners.size === 0) this.#changed.delete(id)
    }
  }

  /**
   * Calls `listener` for each request whose work is to stop, while this process is connected. May
   * call again for one request. Gives the function that ends it.
   */
  onCancelled(listener: (id: string) => void): () => void {
    this.#cancelled.add(listener)
    return () => this.#cancelled.delete(listener)
  }

  /**
   * A signal that aborts, with the reason, when the request's work is to stop (`cancelled`, or the
   * failure of a part of it), or was to already.
   */
  async watchCancel(id: string): Promise<{ controller: AbortController; done: () => void }> {
    const controller = new AbortController()
    const watchers = this.#watched.get(id) ?? new Set()
    this.#watched.set(id, watchers.add(controller))
    await this.#abortIfStopped(id)
    const done = (): void => {
      watchers.delete(controller)
      if (watchers.size === 0) this.#watched.delete(id)
    }
    return { controller, done }
  }

  async #check(id: string): Promise<void> {
    if (await this.#abortIfStopped(id)) this.#cancelled.forEach((listener) => listener(id))
  }

  /** Whether the request is to stop. Who watches it is told. */
  async #abortIfStopped(id: string): Promise<boolean> {
    const reason = await this.#reader.get(KEY.cancel(id)).catch(() => null)
    if (reason === null) return false
    this.#watched.get(id)?.forEach((controller) => controller.abort(decodeFailure(reason)))
    return true
  }

  close(): void {
    clearInterval(this.#rereads)
    this.#subscriber.disconnect()
    this.#reader.disconnect()
  }
}

/** A message that was lost without a trace is made up for after so long. */
const REREAD_MS = 5_000
