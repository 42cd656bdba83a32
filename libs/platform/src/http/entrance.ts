import { randomUUID } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { Logger } from '@nestjs/common'
import type { StrataError } from '@strata/base'
import { closeAfter, continueBody } from '../listener/connection.js'
import { refusalOf, type Authentication } from './authentication.js'
import { answerUnread, hasBody } from './early-answer.js'
import type { ErrorForm } from './errors/error-form.js'
import { failureOf } from './errors/failures.js'
import { Refusals } from './errors/refusals.js'

const LOGGER = new Logger('http')

/**
 * Where every request of an application comes in, before its route's handler: those that the
 * framework routes, and those of trees of their own (tree.ts).
 */
export class Entrance {
  readonly #refusals = new Refusals((line) => LOGGER.log(line))

  constructor(private readonly authentication: Authentication) {}

  /**
   * Lets a request in, and gives its id, which the answer has too; or refuses it and gives
   * `undefined`: it is answered then, and nothing more may be done for it.
   */
  admit(request: IncomingMessage, response: ServerResponse, isOpen: boolean, form: ErrorForm): string | undefined {
    const refused = refusalOf(request, isOpen, this.authentication)
    if (refused) {
      this.refuse(request, response, refused, form)
      return undefined
    }
    if (isOpen) closeAfter(request, response)
    continueBody(response)
    const id = randomUUID()
    response.setHeader('x-request-id', id)
    // Open to everyone: a line for each would let a client without a token fill the disk.
    if (!isOpen) logWhenAnswered(id, request, response)
    return id
  }

  /**
   * Answers a request that may not go on. It is the last one of its connection, and its body is not
   * read.
   */
  refuse(request: IncomingMessage, response: ServerResponse, refused: StrataError, form: ErrorForm): void {
    closeAfter(request, response)
    this.#refusals.add(refusedLine(request, refused))
    if (hasBody(request)) {
      answerUnread(request, response, refused, form)
      return
    }
    const { status, headers, body } = form(refused)
    response.writeHead(status, { ...headers, 'content-length': Buffer.byteLength(body) }).end(body)
  }
}

/**
 * A line for each request that was let in: at `info` if it is answered with an error, at `error` if
 * the service failed.
 */
function logWhenAnswered(id: string, request: IncomingMessage, response: ServerResponse): void {
  const begun = performance.now()
  response.once('close', () => {
    const { statusCode: status } = response
    const ms = Math.round(performance.now() - begun)
    const path = request.url?.split('?')[0]?.slice(0, 1_000)
    const failure = failureOf(response)
    const line = { request: id, method: request.method, path, status, ms, ...failure }
    const what = response.writableFinished ? 'answered' : 'not answered to the end'
    if (status >= 500 || failure) LOGGER.error(line, what)
    else if (status >= 400) LOGGER.log(line, what)
    else LOGGER.debug(line, what)
  })
}

/** A refused request is not let in, and has no line but this. */
function refusedLine({ method = '', url = '', socket }: IncomingMessage, { code }: StrataError): string {
  return `refused, ${code}: ${method} ${url.split('?')[0]!.slice(0, 200)} from ${socket.remoteAddress ?? 'a client that is gone, or a unix socket'}`
}
