import { Inject, Injectable, type CanActivate, type ExecutionContext } from '@nestjs/common'
import { StrataError } from '@strata/oci'
import { sameSecret, secretFromFile } from '@strata/platform'
import type { FastifyRequest } from 'fastify'
import { GATEWAY_CONFIG, type GatewayConfig } from './config.js'

/** Who comes by the unix socket was let in by its file mode; who comes by TCP, loopback too, needs the token. */
@Injectable()
export class TokenGuard implements CanActivate {
  readonly #token: string
  constructor(@Inject(GATEWAY_CONFIG) config: GatewayConfig) {
    this.#token = secretFromFile(config.STRATA_TOKEN_FILE)
  }

  canActivate(context: ExecutionContext): boolean {
    const request = context.switchToHttp().getRequest<FastifyRequest>()
    // A unix socket has no remote address.
    if (request.raw.socket.remoteAddress === undefined) return true
    const [scheme, given] = (request.headers.authorization ?? '').split(' ')
    if (scheme?.toLowerCase() === 'bearer' && given !== undefined && sameSecret(given, this.#token)) return true
    throw new StrataError('unauthorized', 'this door needs the token: send `Authorization: Bearer <token>` (the CLI takes it from STRATA_TOKEN)')
  }
}
