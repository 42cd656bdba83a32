import {
  allowEveryone,
  readSecretFile,
  secretInHeader,
  type Authentication,
  type Authenticator,
} from '@strata/platform'
import type { GatewayConfig } from './config.js'

/**
 * How each listener of the gateway authenticates requests. Access to the unix socket is by its file
 * mode. TCP needs the token, loopback too.
 *
 * Under `/v2` the token may also be the password of Basic credentials, of any user, since the
 * clients of registries send nothing else. It may not be elsewhere: browsers send Basic credentials
 * by themselves, also for a form of another site. A browser that has them for `/v2` sends them with
 * scripts of other sites too, so a request that such a page made is refused. No client of a
 * registry says what a page says.
 */
export function gatewayAuthentication({ STRATA_TOKEN_FILE: file }: GatewayConfig): Authentication {
  const token = file === undefined ? undefined : readSecretFile(file, 'STRATA_TOKEN_FILE')
  return {
    unix: allowEveryone,
    tcp:
      token === undefined
        ? () => false
        : either(
            secretInHeader('authorization', token, (value) => /^bearer (.+)$/i.exec(value)?.[1]),
            onlyUnder('/v2', notOfOtherSites(secretInHeader('authorization', token, passwordOf))),
          ),
    refusal:
      'requests over TCP need the token: send `Authorization: Bearer <token>` (the CLI takes it from STRATA_TOKEN); a client of the registry logs in with the token as its password',
  }
}

function either(one: Authenticator, other: Authenticator): Authenticator {
  return (request) => one(request) || other(request)
}

/**
 * Accepts only requests below `prefix`. The path is compared undecoded: no spelling of a path has
 * this prefix and reaches a route without it.
 */
function onlyUnder(prefix: string, authenticator: Authenticator): Authenticator {
  return (request) =>
    /^([^?]*)/
      .exec(request.url ?? '')?.[1]
      ?.concat('/')
      .startsWith(`${prefix}/`) === true && authenticator(request)
}

/**
 * `none` is an address that a person has typed. Pages behind our own address may ask, whatever the
 * method: of their DELETE and PUT a browser names the `Origin` too.
 */
function notOfOtherSites(authenticator: Authenticator): Authenticator {
  return (request) => {
    const { origin, 'sec-fetch-site': site } = request.headers
    const isOfNoPage = origin === undefined && (site === undefined || site === 'none')
    return (isOfNoPage || site === 'same-origin') && authenticator(request)
  }
}

/** RFC 7617: the user's name has no colon, the password may have some. */
function passwordOf(header: string): string | undefined {
  const [, encoded] = /^basic ([A-Za-z0-9+/]+={0,2})$/i.exec(header) ?? []
  if (encoded === undefined) return undefined
  return /^[^:]*:(.*)$/s.exec(Buffer.from(encoded, 'base64').toString())?.[1]
}
