import type { Connection } from './connection.js'

/**
 * The connection as libuv has it. No part of Node's API, so each field may be absent or different.
 */
interface Internals {
  /** Bytes that it was given, and those of them that the kernel has not taken. */
  _handle?: { readonly bytesWritten?: unknown; readonly writeQueueSize?: unknown } | null
}

/**
 * Bytes a second that a client takes at least of an answer that waits for it whole, on the average
 * of a window. `STRATA_PUSH_MIN_RATE` is the same for what it sends.
 */
const LEAST_RATE = 1024

/**
 * Cuts off connections whose client takes nothing of an answer for `unreadMs`, or takes less than
 * LEAST_RATE of one that waits for it whole.
 *
 * Laws
 * - An answer that has nothing to send may last as long as it likes, and so may one whose client
 *   may pause.
 * - The rate counts only once the handler has ended the answer: all of it is in memory then, and
 *   waits for the client alone. Whoever still produces an answer (events, a blob in parts) may have
 *   a client as slow as it likes, as long as it takes something within `unreadMs`.
 * - A window has at least `unreadMs`. It ends when the client takes something, because the kernel
 *   takes bytes in lumps that may be a minute of a slow line: the average from lump to lump is the
 *   client's, and any other is not. One look is taken off, since a lump is seen that much later.
 * - A look that comes late shows that this process stood still (SIGSTOP, a machine that sleeps). It
 *   gave the kernel nothing in that time, so the time is none of the client's.
 *
 * `socket.setTimeout` does not do this: any byte that the client sends counts there, so a client
 * could hold its answers for ever with an empty line a minute. `socket.bytesWritten` does not
 * either: it does not show how much of a write is done.
 */
export class UnreadAnswers {
  readonly #watched = new Set<Connection>()
  readonly #lookMs: number
  readonly #timer: NodeJS.Timeout
  #lookedAt = performance.now()
  #stoodStillMs = 0

  /**
   * @param cut ends a connection: by a reset if it can be reset, so that the kernel drops what it
   * holds for the client
   */
  constructor(
    private readonly unreadMs: number,
    private readonly cut: (connection: Connection) => unknown,
  ) {
    this.#lookMs = Math.ceil(unreadMs / 4)
    this.#timer = setInterval(() => this.#look(), this.#lookMs).unref()
  }

  watch(connection: Connection): void {
    connection.taken = { bytes: 0, at: performance.now() - this.#stoodStillMs }
    connection.window = undefined
    this.#watched.add(connection)
  }

  forget(connection: Connection): void {
    this.#watched.delete(connection)
  }

  close(): void {
    clearInterval(this.#timer)
  }

  #look(): void {
    const lookedAt = performance.now()
    const sinceLast = lookedAt - this.#lookedAt
    if (sinceLast > 1.5 * this.#lookMs) this.#stoodStillMs += sinceLast
    this.#lookedAt = lookedAt
    const now = lookedAt - this.#stoodStillMs
    for (const connection of this.#watched) {
      const { bytesWritten: given, writeQueueSize: left } = (connection.socket as Internals)._handle ?? {}
      if (typeof given !== 'number' || typeof left !== 'number') continue
      const seen = { bytes: given - left, at: now }
      const { taken, turns } = connection
      const isWaiting = left > 0 && !turns[0]?.mayPause
      const isWhole = isWaiting && turns[0]?.response.writableEnded === true
      connection.window = isWhole ? (connection.window ?? seen) : undefined
      if (!isWaiting) connection.taken = seen
      else if (seen.bytes === taken.bytes) {
        if (now - taken.at >= this.unreadMs) this.cut(connection)
      } else {
        connection.taken = seen
        if (connection.window && now - connection.window.at >= this.unreadMs) this.#judge(connection, connection.window)
      }
    }
  }

  #judge(connection: Connection, window: Connection['taken']): void {
    const { bytes, at } = connection.taken
    const leastBytes = (LEAST_RATE * (at - window.at - this.#lookMs)) / 1_000
    if (bytes - window.bytes < leastBytes) this.cut(connection)
    else connection.window = connection.taken
  }
}
