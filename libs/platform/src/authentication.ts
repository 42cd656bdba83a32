import type { IncomingMessage } from 'node:http'
import { RouteConfig } from '@nestjs/platform-fastify'
import { StrataError } from '@strata/oci'
import type { FastifyRequest } from 'fastify'
import { listenerOf } from './doors.js'
import { hasBody } from './early-answer.js'
import { sameSecret } from './token.js'

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
 *   the route, so no spelling of a path can be open and reach a route that is not. An open route
 *   takes no body.
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
  return (request) => {
    const values = request.headersDistinct[name]
    const given = values?.length === 1 ? secretOf(values[0]!) : undefined
    return given !== undefined && sameSecret(given, secret)
  }
}

export function isOpen(request: FastifyRequest): boolean {
  return request.routeOptions.config.open === true
}

/** Why the request is refused, or `undefined` if it may go on. */
export function refusalOf(request: FastifyRequest, authentication: Authentication): StrataError | undefined {
  const listener = listenerOf(request.raw)
  if (listener === undefined) return new StrataError('unauthorized', authentication.refusal)
  if (isOpen(request))
    return hasBody(request.raw) ? new StrataError('bad_request', 'this request takes no body') : undefined
  return authentication[listener.kind](request.raw)
    ? undefined
    : new StrataError('unauthorized', authentication.refusal)
}
