import { readSecretFile, secretInHeader, type Authentication } from '@strata/platform'
import type { RuntimeConfig } from './config.js'

/** Every request to a node, by socket or TCP, shows the secret that gateways and nodes share. */
export function nodeAuthentication({ STRATA_NODE_SECRET_FILE: file }: RuntimeConfig): Authentication {
  const showsSecret = secretInHeader('x-strata-secret', readSecretFile(file, 'STRATA_NODE_SECRET_FILE'))
  return {
    unix: showsSecret,
    tcp: showsSecret,
    refusal: 'the API of a node is for gateways: the shared secret does not match',
  }
}
