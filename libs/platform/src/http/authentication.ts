import type { IncomingMessage } from 'node:http'
import { RouteConfig } from '@nestjs/platform-fastify'
import { StrataError } from '@strata/base'
import type { FastifyRequest } from 'fastify'
import { listenerOf } from '../listener/connection.js'
import { hasBody } from './early-answer.js'
import { isSecret } from './token.js'

/**
 * Who may send a request. This is the only place where an HTTP server of Strata decides that.
 *
 * Laws
 * - The listener that accepted the connection selects the authenticator. A request whose listener
 *   is unknown is refused.
 * - The decision is made once for each request, from its headers alone: before a byte of its body
 *   is read, before `100 Continue` is sent, before any middleware, and for every path, also one
 *   that does not exist.
 * - A route is open to everyone only if its own route config says `open: true`. The router picks
 *   the route, so no spelling of a path can be open and reach a route that is not.
 * - A body that nobody would read is refused: of an open route, and of GET, HEAD and TRACE.
 * - The body of a request that is not authenticated is never read (`answerUnread`), and its
 *   connection ends with the answer (`closeAfter`).
 */
export type Authenticator = (request: IncomingMessage) => boolean

/** How each kind of listener authenticates, and what a refused client is told. */
export interface Authentication {
  readonly unix: Authenticator
  readonly tcp: Authenticator
  /** One sentence: what the client must send. */
  readonly refusal: string
}

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Requests for this route are not authenticated, on any listener. */
    open?: boolean
  }
}

/**
 * A route that anyone who reaches a listener may use. It must reveal nothing about images or
 * containers.
 */
export const Open = (): MethodDecorator => RouteConfig({ open: true })

/** For a unix socket: whoever could open it was let in by the mode of its file. */
export const allowEveryone: Authenticator = () => true

/**
 * The header `name` has the value that `secretOf` finds the secret in. A header that is sent twice
 * is refused: two readers could read two values.
 */
export function secretInHeader(
  name: string,
  secret: string,
  secretOf: (value: string) => string | undefined = (value) => value,
): Authenticator {
  const isRight = isSecret(secret)
  return (request) => {
    const value = onlyValue(request, name)
    const given = value === undefined ? undefined : secretOf(value)
    return given !== undefined && isRight(given)
  }
}

/**
 * The value of a header that was sent once. `headers` would give one of several, and
 * `headersDistinct` takes as long as all else that authenticates a request.
 */
function onlyValue({ rawHeaders }: IncomingMessage, name: string): string | undefined {
  let value: string | undefined
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const sent = rawHeaders[at]!
    if (sent.length !== name.length || sent.toLowerCase() !== name) continue
    if (value !== undefined) return undefined
    value = rawHeaders[at + 1]
  }
  return value
}

export function isOpen(request: FastifyRequest): boolean {
  return request.routeOptions.config.open === true
}

/**
 * Methods whose bodies Fastify does not read. Nobody would: when Node has buffered 64 KiB of a
 * body, it stops reading the socket, and then it does not notice that the client closed or reset
 * the connection. `logs?follow` would go on for nobody.
 */
const WITHOUT_BODY: readonly (string | undefined)[] = ['GET', 'HEAD', 'TRACE']

/**
 * Why the request is refused, or `undefined` if it may go on.
 * @param isRouteOpen as its route says (`isOpen`)
 */
export function refusalOf(
  request: IncomingMessage,
  isRouteOpen: boolean,
  authentication: Authentication,
): StrataError | undefined {
  const listener = listenerOf(request)
  const isLetIn = listener !== undefined && (isRouteOpen || authentication[listener.kind](request))
  if (!isLetIn) return new StrataError('unauthorized', authentication.refusal)
  const takesBody = !isRouteOpen && !WITHOUT_BODY.includes(request.method)
  return hasBody(request) && !takesBody ? new StrataError('bad_request', 'this request takes no body') : undefined
}
