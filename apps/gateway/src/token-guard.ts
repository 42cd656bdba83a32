import { Inject, Injectable, SetMetadata, type CanActivate, type ExecutionContext } from '@nestjs/common'
import { Reflector } from '@nestjs/core'
import { StrataError } from '@strata/oci'
import { readSecretFile, sameSecret } from '@strata/platform'
import type { FastifyRequest } from 'fastify'
import { GATEWAY_CONFIG, type GatewayConfig } from './config.js'

const OPEN = Symbol('open')
/** A route that whoever reaches the port may ask: it tells nothing of what is here. */
export const Open = (): MethodDecorator => SetMetadata(OPEN, true)

/** Who comes by the unix socket was let in by its file mode; who comes by TCP, loopback too, needs the token. */
@Injectable()
export class TokenGuard implements CanActivate {
  readonly #token: string | undefined
  constructor(
    @Inject(GATEWAY_CONFIG) { STRATA_TOKEN_FILE: file }: GatewayConfig,
    private readonly reflector: Reflector,
  ) {
    this.#token = file === undefined ? undefined : readSecretFile(file, 'STRATA_TOKEN_FILE')
  }

  canActivate(context: ExecutionContext): boolean {
    const request = context.switchToHttp().getRequest<FastifyRequest>()
    // A unix socket has no remote address.
    if (request.raw.socket.remoteAddress === undefined) return true
    if (this.reflector.get<boolean | undefined>(OPEN, context.getHandler())) return true
    const given = /^bearer (.+)$/i.exec(request.headers.authorization ?? '')?.[1]
    if (given !== undefined && this.#token !== undefined && sameSecret(given, this.#token)) return true
    throw new StrataError('unauthorized', 'this door needs the token: send `Authorization: Bearer <token>` (the CLI takes it from STRATA_TOKEN)')
  }
}
