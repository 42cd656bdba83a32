import { Catch, HttpException, Logger, type ArgumentsHost, type ExceptionFilter } from '@nestjs/common'
import { StrataError } from '@strata/base'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { errorFormOf, type ErrorTree } from './error-form.js'
import { toProblem } from './problem.js'

/** Answers what a controller throws, in the form of its API. Unexpected errors are logged whole. */
@Catch()
export class ErrorFilter implements ExceptionFilter {
  readonly #logger = new Logger('http')

  constructor(private readonly trees: readonly ErrorTree[]) {}

  catch(thrown: unknown, host: ArgumentsHost): void {
    const http = host.switchToHttp()
    const reply = http.getResponse<FastifyReply>()
    const known = fromFramework(thrown)
    const { body: problem, error } = toProblem(known)
    if (problem.status >= 500) this.#logger.error(error.cause ?? error, error.message)
    if (reply.raw.headersSent || reply.raw.destroyed) {
      reply.raw.destroy()
      return
    }
    const { status, headers, body } = errorFormOf(this.trees, http.getRequest<FastifyRequest>().raw.url)(known)
    void reply.status(status).headers(headers).send(body)
  }
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
