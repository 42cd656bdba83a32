import { StrataError } from '@strata/base'

/** A failure that another attempt may mend. */
export class Unavailable extends StrataError {
  constructor(
    message: string,
    options: {
      cause?: unknown
      /** What the server asked for. */
      readonly retryAfterMs?: number | undefined
      /** There was no connection: nothing was said yet. */
      readonly isUnconnected?: boolean
    } = {},
  ) {
    super('registry_unavailable', message, { cause: options.cause })
    this.retryAfterMs = options.retryAfterMs
    this.isUnconnected = options.isUnconnected ?? false
  }
  readonly retryAfterMs: number | undefined
  readonly isUnconnected: boolean
}
