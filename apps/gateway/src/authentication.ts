import { allowEveryone, readSecretFile, secretInHeader, type Authentication } from '@strata/platform'
import type { GatewayConfig } from './config.js'

/**
 * How each listener of the gateway authenticates requests. Access to the unix socket is by its file
 * mode. TCP needs the token, loopback too.
 */
export function gatewayAuthentication({ STRATA_TOKEN_FILE: file }: GatewayConfig): Authentication {
  const token = file === undefined ? undefined : readSecretFile(file, 'STRATA_TOKEN_FILE')
  return {
    unix: allowEveryone,
    tcp:
      token === undefined
        ? () => false
        : secretInHeader('authorization', token, (value) => /^bearer (.+)$/i.exec(value)?.[1]),
    refusal:
      'requests over TCP need the token: send `Authorization: Bearer <token>` (the CLI takes it from STRATA_TOKEN)',
  }
}
