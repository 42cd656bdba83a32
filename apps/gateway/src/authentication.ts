import { allowEveryone, readSecretFile, secretInHeader, type Authentication } from '@strata/platform'
import type { GatewayConfig } from './config.js'

/** The unix socket's file mode lets its users in. TCP, loopback too, needs the token. */
export function gatewayAuthentication({ STRATA_TOKEN_FILE: file }: GatewayConfig): Authentication {
  const token = file === undefined ? undefined : readSecretFile(file, 'STRATA_TOKEN_FILE')
  return {
    unix: allowEveryone,
    tcp:
      token === undefined
        ? () => false
        : secretInHeader('authorization', token, (value) => /^bearer (.+)$/i.exec(value)?.[1]),
    refusal: 'this door needs the token: send `Authorization: Bearer <token>` (the CLI takes it from STRATA_TOKEN)',
  }
}
