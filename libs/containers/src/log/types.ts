/** A piece of a container's output, exactly as it was written. */
export interface LogChunk {
  /** 1 stdout, 2 stderr. */
  readonly stream: 1 | 2
  readonly bytes: Buffer
  /** When the first byte of the piece was read from the container: RFC 3339 with nanoseconds. */
  readonly time: string
}

/** A place in a log: a byte of a generation. */
export interface LogPlace {
  readonly number: number
  readonly offset: number
}

export interface LogOptions {
  /** Goes on until the container has exited and all is read; without it, ends at what is there. */
  readonly follow?: boolean | undefined
  /** Only what was written from here on. Left out: from the beginning. */
  readonly from?: LogPlace | undefined
  /** Only the last so many lines of both streams together, of what `from` leaves. */
  readonly tail?: number | undefined
  /** One stream only. */
  readonly stream?: 1 | 2 | undefined
  /**
   * This is the foreground reader: output it has not had yet is not rotated away, and what earlier
   * starts of the container wrote is not for it.
   */
  readonly foreground?: boolean | undefined
  /** Ends the iteration (without an error). */
  readonly signal?: AbortSignal | undefined
}

export interface LogLimits {
  /** A generation is closed at about this size. */
  readonly maxBytes: number
  /** How many generations are kept, the current one among them. */
  readonly generations: number
  /**
   * How much is kept for a foreground reader that lags; past it, the reader gets `limit_exceeded`.
   */
  readonly heldBytes: number
  /**
   * How large a generation gets that nobody closes: while no service runs, or when it cannot keep
   * up. What a container writes beyond is lost, which the service says when it is back; the
   * container goes on.
   */
  readonly unattendedBytes: number
}

export const LOG_LIMITS: LogLimits = {
  maxBytes: 10 * 2 ** 20,
  generations: 3,
  heldBytes: 2 ** 30,
  unattendedBytes: 2 ** 30,
}
