import { Inject, Injectable, type CanActivate, type ExecutionContext } from '@nestjs/common'
import { StrataError } from '@strata/oci'
import { readSecretFile, sameSecret } from '@strata/platform'
import type { FastifyRequest } from 'fastify'
import { RUNTIME_CONFIG, type RuntimeConfig } from './config.js'

/** Whoever knocks at a node's door, by socket or TCP, shows the secret that gateways and nodes share. */
@Injectable()
export class DoorGuard implements CanActivate {
  readonly #secret: string
  constructor(@Inject(RUNTIME_CONFIG) config: RuntimeConfig) {
    this.#secret = readSecretFile(config.STRATA_NODE_SECRET_FILE, 'STRATA_NODE_SECRET_FILE')
  }

  canActivate(context: ExecutionContext): boolean {
    const given = context.switchToHttp().getRequest<FastifyRequest>().headers['x-strata-secret']
    if (typeof given === 'string' && sameSecret(given, this.#secret)) return true
    throw new StrataError('unauthorized', 'the door of a node is for gateways: the shared secret does not match')
  }
}
