import { Logger } from '@nestjs/common'
import { asStrataError, toldToAll, type StrataError } from '@strata/base'
import type { ServerResponse } from 'node:http'

/** Why the service failed, in the line of a request. */
export interface Failure {
  readonly code: string
  readonly error: string
  readonly cause?: string
}
const failures = new WeakMap<ServerResponse, Failure>()
const LOGGER = new Logger('http')

/** Why the answer is a 5xx, or was broken off. */
export function failureOf(answer: ServerResponse): Failure | undefined {
  return failures.get(answer)
}

/**
 * Has the reason of a failure logged, once. An unexpected error is logged whole. An error of a
 * known code with a status of 5xx (Redis or the store is away) is logged in the line of its
 * request, without a stack: the code says where to look, and each request would repeat it. If the
 * client has left, that line was written already (`logWhenAnswered`), and the reason gets its own.
 *
 * @param status of the answer
 */
export function noteFailure(answer: ServerResponse, thrown: unknown, status: number): void {
  const error = asStrataError(thrown)
  if (error.code === 'internal') LOGGER.error(error.cause ?? error, error.message)
  else if (status >= 500) {
    if (answer.closed) LOGGER.error(failureFrom(error), 'failed behind its client')
    else failures.set(answer, failureFrom(error))
  }
}

function failureFrom(error: StrataError): Failure {
  const { code, message } = toldToAll(error)
  const cause = error.confidential || !(error.cause instanceof Error) ? '' : error.cause.message
  return { code, error: message, ...(cause !== '' && !message.includes(cause) && { cause }) }
}
