import { Catch, HttpException, Logger, type ArgumentsHost, type ExceptionFilter } from '@nestjs/common'
import { StrataError } from '@strata/base'
import type { FastifyReply } from 'fastify'
import { PROBLEM_TYPE, toProblem } from './problem.js'

/** Whatever a controller throws, as a problem; unexpected ones are logged whole. */
@Catch()
export class ProblemFilter implements ExceptionFilter {
  readonly #logger = new Logger('http')

  catch(thrown: unknown, host: ArgumentsHost): void {
    const reply = host.switchToHttp().getResponse<FastifyReply>()
    const { body, error } = toProblem(fromFramework(thrown))
    if (body.status >= 500) this.#logger.error(error.cause ?? error, error.message)
    if (reply.raw.headersSent || reply.raw.destroyed) {
      reply.raw.destroy()
      return
    }
    void reply.status(body.status).type(PROBLEM_TYPE).send(body)
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
