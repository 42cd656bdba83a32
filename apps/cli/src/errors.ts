import type { ErrorCode } from '@strata/base'

/** docker's exit code for what went wrong before the container's own process ran. */
export const EXIT_NOT_RUN = 125

/**
 * Ends a command: one sentence on stderr, and the exit code. `code` is the service's, where it
 * answered with a problem.
 */
export class CliError extends Error {
  override readonly name = 'CliError'
  readonly exitCode: number
  readonly code: ErrorCode | undefined
  /** Who says it: `strata`, or `strata run` where a command was misspelt. */
  readonly speaker: string
  constructor(
    message: string,
    options: { exitCode?: number; code?: ErrorCode | undefined; speaker?: string; cause?: unknown } = {},
  ) {
    super(message, { cause: options.cause })
    this.exitCode = options.exitCode ?? 1
    this.code = options.code
    this.speaker = options.speaker ?? 'strata'
  }
}

/** No answer at all: nothing listens there, or the connection broke. */
export class UnreachableError extends CliError {}

/**
 * What node's own errors say to a reader: `no such file or directory`, as the C library words it.
 */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return /^[A-Z0-9_]+: ([^,]+)(?:,|$)/.exec(error.message)?.[1] ?? error.message
}
