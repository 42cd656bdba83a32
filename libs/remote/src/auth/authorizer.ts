import { StrataError } from '@strata/base'
import { hostOf, authorityOf } from '../wire/destinations.js'
import type { Answer } from '../wire/answer.js'
import type { Credentials } from '../remote-repository.js'
import type { Wire } from '../wire/wire.js'
import { parseChallenges, type Challenge } from './challenge.js'
import { basic, type Tokens } from './tokens.js'

export interface AuthorizerOptions {
  readonly wire: Wire
  readonly tokens: Tokens
  /** As images name it. */
  readonly registry: string
  /** Of the host that challenges. */
  readonly root: URL
  readonly scope: string
  readonly credentials: Credentials | undefined
  /** Authorities of token services that may see the credentials. */
  readonly realms: readonly string[]
}

/**
 * How one host is told who asks. Nothing is sent before the host asks for it. What it asked for
 * last is kept, so that the next request brings it.
 *
 * Credentials are shown to the host itself, and to a token service that belongs to it: on the same
 * host name, in the table of families, or in `realms` of its configuration. Any other token service
 * is asked without them.
 */
export class Authorizer {
  #challenge: Challenge | undefined

  constructor(private readonly options: AuthorizerOptions) {}

  /**
   * The value of `Authorization` for the next request, if one is known to be needed.
   *
   * @param refused the value that the host did not take
   */
  async authorization(refused: string | undefined, signal: AbortSignal): Promise<string | undefined> {
    const { credentials } = this.options
    if (!this.#challenge) return undefined
    if (this.#challenge.scheme === 'basic')
      return credentials && 'username' in credentials ? basic(credentials) : undefined
    if (credentials && 'registryToken' in credentials) return `Bearer ${credentials.registryToken}`
    return `Bearer ${await this.#token(this.#challenge, refused?.replace(/^Bearer /, ''), signal)}`
  }

  /**
   * Takes what a 401 says.
   *
   * @throws StrataError `registry_denied` if there is nothing to say to it, `registry_invalid`
   */
  challenged(answer: Answer): void {
    const { registry, credentials } = this.options
    const offered = parseChallenges(answer.message.headersDistinct['www-authenticate'] ?? [], answer.what)
    const bearer = offered.find(({ scheme, parameters }) => scheme === 'bearer' && parameters.has('realm'))
    const basicOne = offered.find(({ scheme }) => scheme === 'basic')
    if (!bearer && !basicOne)
      throw new StrataError(
        'registry_denied',
        `${registry} asks for credentials in no way that is known here: ${answer.what}`,
      )
    if (!bearer && !(credentials && 'username' in credentials))
      throw new StrataError(
        'registry_denied',
        `${registry} asks for a user name and a password, and there are none: log in first (strata login ${registry})`,
      )
    this.#challenge = bearer ?? basicOne
  }

  async #token({ parameters }: Challenge, refused: string | undefined, signal: AbortSignal): Promise<string> {
    const { wire, tokens, registry, root, credentials } = this.options
    const realm = wire.destinations.resolve(parameters.get('realm') ?? '', root, 'realms')
    const scope = pullsOf(parameters.get('scope')) || this.options.scope
    return await tokens.get(
      {
        wire,
        realm,
        service: parameters.get('service'),
        scope,
        credentials: this.#mayShow(realm.url) ? credentials : undefined,
        registry,
      },
      refused,
      signal,
    )
  }

  #mayShow(realm: URL): boolean {
    const { root, realms } = this.options
    if (realm.protocol !== root.protocol && realm.protocol !== 'https:') return false
    return hostOf(realm) === hostOf(root) || realms.includes(authorityOf(realm))
  }
}

/**
 * Of the scopes that a host asks for, those of repositories, and of their actions only `pull`: a
 * token that can do more is worth stealing, and it is the host that gets it. The name stays: a
 * mirror may have the repository under another one.
 */
function pullsOf(scope = ''): string {
  const names = scope.split(/\s+/).flatMap((one) => {
    const [, resource, actions = ''] = /^(repository(?:\([^()]*\))?:.+):([^:]*)$/.exec(one) ?? []
    return resource !== undefined && actions.split(',').includes('pull') ? [`${resource}:pull`] : []
  })
  return names.join(' ')
}
