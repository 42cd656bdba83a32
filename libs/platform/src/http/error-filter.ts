import { Catch, HttpException, Logger, type ArgumentsHost, type ExceptionFilter } from '@nestjs/common'
import { StrataError, toldToAll } from '@strata/base'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { ServerResponse } from 'node:http'
import { errorFormOf, type ErrorTree } from './error-form.js'
import { toProblem } from './problem.js'

/** Why the service failed, in the line of a request. */
export interface Failure {
  readonly code: string
  readonly error: string
  readonly cause?: string
}
const failures = new WeakMap<ServerResponse, Failure>()

/** Why the answer is a 5xx, or was broken off. */
export function failureOf(answer: ServerResponse): Failure | undefined {
  return failures.get(answer)
}

/**
 * Answers what a controller throws, in the form of its API. An unexpected error is logged whole. An
 * error of a known code with a status of 5xx (Redis or the store is away) is logged in the line of
 * its request, without a stack: the code says where to look, and each request would repeat it.
 */
@Catch()
export class ErrorFilter implements ExceptionFilter {
  readonly #logger = new Logger('http')

  constructor(private readonly trees: readonly ErrorTree[]) {}

  catch(thrown: unknown, host: ArgumentsHost): void {
    const http = host.switchToHttp()
    const reply = http.getResponse<FastifyReply>()
    const known = fromFramework(thrown)
    const { body: problem, error } = toProblem(known)
    if (error.code === 'internal') this.#logger.error(error.cause ?? error, error.message)
    else if (problem.status >= 500) failures.set(reply.raw, failureFrom(error))
    if (reply.raw.headersSent || reply.raw.destroyed) {
      reply.raw.destroy()
      return
    }
    const { status, headers, body } = errorFormOf(this.trees, http.getRequest<FastifyRequest>().raw.url)(known)
    void reply.status(status).headers(headers).send(body)
  }
}

function failureFrom(error: StrataError): Failure {
  const { code, message } = toldToAll(error)
  const cause = error.confidential || !(error.cause instanceof Error) ? '' : error.cause.message
  return { code, error: message, ...(cause !== '' && !message.includes(cause) && { cause }) }
}

/**
 * The framework's and the server's own refusals (no such route, a body that is not JSON, too large)
 * in our words.
 */
function fromFramework(thrown: unknown): unknown {
  const status =
    thrown instanceof HttpException
      ? thrown.getStatus()
      : thrown instanceof Error && 'statusCode' in thrown
        ? thrown.statusCode
        : undefined
  if (typeof status !== 'number' || status >= 500 || !(thrown instanceof Error)) return thrown
  const code =
    status === 404 ? 'not_found' : status === 413 ? 'limit_exceeded' : status === 415 ? 'unsupported' : 'bad_request'
  return new StrataError(
    code,
    status === 404 ? `there is no ${thrown.message.replace(/^Cannot /, '')}` : thrown.message,
  )
}
