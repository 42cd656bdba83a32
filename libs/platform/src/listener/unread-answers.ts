import type { Connection } from './connection.js'

/**
 * The connection as libuv has it. No part of Node's API, so each field may be absent or different.
 */
interface Internals {
  /** Bytes that it was given, and those of them that the kernel has not taken. */
  _handle?: { readonly bytesWritten?: unknown; readonly writeQueueSize?: unknown } | null
}

/**
 * Cuts off connections whose client takes nothing of an answer for `unreadMs`.
 *
 * An answer that has nothing to send may last as long as it likes, and so may one whose client may
 * pause.
 *
 * `socket.setTimeout` does not do this: any byte that the client sends counts there, so a client
 * could hold its answers for ever with an empty line a minute. `socket.bytesWritten` does not
 * either: it does not show how much of a write is done.
 */
export class UnreadAnswers {
  readonly #watched = new Set<Connection>()
  readonly #timer: NodeJS.Timeout

  /**
   * @param cut ends a connection: by a reset if it can be reset, so that the kernel drops what it
   * holds for the client
   */
  constructor(
    private readonly unreadMs: number,
    private readonly cut: (connection: Connection) => unknown,
  ) {
    this.#timer = setInterval(() => this.#look(), Math.ceil(unreadMs / 4)).unref()
  }

  watch(connection: Connection): void {
    connection.taken = { bytes: 0, at: performance.now() }
    this.#watched.add(connection)
  }

  forget(connection: Connection): void {
    this.#watched.delete(connection)
  }

  close(): void {
    clearInterval(this.#timer)
  }

  #look(): void {
    const now = performance.now()
    for (const connection of this.#watched) {
      const { bytesWritten: given, writeQueueSize: left } = (connection.socket as Internals)._handle ?? {}
      if (typeof given !== 'number' || typeof left !== 'number') continue
      const bytes = given - left
      const { taken, turns } = connection
      if (left === 0 || bytes !== taken.bytes || turns[0]?.mayPause) connection.taken = { bytes, at: now }
      else if (now - taken.at >= this.unreadMs) this.cut(connection)
    }
  }
}
