import { Catch, HttpException, type ArgumentsHost, type ExceptionFilter } from '@nestjs/common'
import { StrataError } from '@strata/base'
import type { FastifyReply } from 'fastify'
import { problemForm } from './error-form.js'
import { noteFailure } from './failures.js'

/** Answers what a controller throws. */
@Catch()
export class ErrorFilter implements ExceptionFilter {
  catch(thrown: unknown, host: ArgumentsHost): void {
    const reply = host.switchToHttp().getResponse<FastifyReply>()
    const known = fromFramework(thrown)
    const { status, headers, body } = problemForm(known)
    noteFailure(reply.raw, known, status)
    if (reply.raw.headersSent || reply.raw.destroyed) reply.raw.destroy()
    else void reply.status(status).headers(headers).send(body)
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
