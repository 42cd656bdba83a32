import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ConnectionOptions } from 'node:tls'
import { isMembers } from '../credentials/docker-config.js'
import { CliError } from '../errors.js'
import { challengesOf } from './challenge.js'
import { addressesOf, get, isPublic, type Answer, type Route } from './request.js'

/*
 * Whether a registry takes a login, asked as docker does (distribution, "Token Authentication
 * Specification"): `GET /v2/` with the user's name and password, or with a token that the realm
 * gives for them.
 *
 * - The realm is whatever the registry says, so it is hostile: it gets the password by TLS only,
 *   unless it is on the registry's own host, and that was asked without. A registry of the internet
 *   cannot name one in the user's own network.
 * - No redirect is followed.
 */

export interface Login {
  readonly username: string
  readonly password: string
}

const CERTIFICATES = '/etc/docker/certs.d'

/** By the host of a name: who has the images. */
const SERVERS: Readonly<Record<string, string>> = { 'docker.io': 'registry-1.docker.io' }

/**
 * @returns the identity token that stands for the password from now on, if the registry gives one
 * @throws CliError if the registry does not take the login, or cannot be asked
 */
export async function checkLogin(host: string, login: Login, isInsecure = false): Promise<string | undefined> {
  const server = SERVERS[host] ?? host
  const url = new URL(`https://${server}/v2/`)
  const route: Route = { addresses: await addressesOf(url.hostname), tls: authorities(server) }
  // As docker: a registry on this machine may be as it likes.
  const isLoose = isInsecure || /^(?:localhost|127(?:\.\d+){3}|\[::1\])$/.test(url.hostname)
  if (!isLoose) return attempt(url, route, login)
  const loose = { ...route, tls: { rejectUnauthorized: false } }
  const first = await get(url, loose, {}).catch((error: unknown) => asCliError(error))
  // Plain HTTP is tried only if the server does not speak TLS.
  if (!(first instanceof CliError)) return attempt(url, loose, login)
  return attempt(new URL(`http://${server}/v2/`), loose, login)
}

function asCliError(error: unknown): CliError {
  if (error instanceof CliError) return error
  throw error
}

async function attempt(url: URL, route: Route, login: Login): Promise<string | undefined> {
  const first = await get(url, route, {})
  if (first.status !== 401) return accepted(url, first)
  const challenges = challengesOf(first.headers['www-authenticate'])
  const bearer = challenges.find(({ scheme }) => scheme === 'bearer')
  const basic = `Basic ${Buffer.from(`${login.username}:${login.password}`).toString('base64')}`
  if (!bearer) {
    if (!challenges.some(({ scheme }) => scheme === 'basic'))
      throw new CliError(`${url.host} asks for neither a password nor a token: it is no registry that Strata knows`)
    return accepted(url, await get(url, route, { authorization: basic }))
  }
  const { token, identity } = await tokenOf(url, route, bearer.parameters, login.username, basic)
  accepted(url, await get(url, route, { authorization: `Bearer ${token}` }))
  return identity
}

function accepted({ host, pathname }: URL, { status }: Answer): undefined {
  if (status >= 200 && status < 300) return undefined
  if (status === 401 || status === 403)
    throw new CliError(`${host} does not take this login: unauthorized: incorrect username or password`)
  throw new CliError(`login attempt to ${host}${pathname} failed with status: ${status}`)
}

async function tokenOf(
  registry: URL,
  route: Route,
  parameters: ReadonlyMap<string, string>,
  username: string,
  authorization: string,
): Promise<{ token: string; identity: string | undefined }> {
  const realm = realmOf(registry, parameters.get('realm') ?? '')
  const service = parameters.get('service')
  if (service !== undefined) realm.searchParams.set('service', service)
  realm.searchParams.set('account', username)
  realm.searchParams.set('client_id', 'docker')
  realm.searchParams.set('offline_token', 'true')
  const answer = await get(realm, await routeTo(realm, registry, route), { authorization })
  accepted(realm, answer)
  let said: unknown
  try {
    said = JSON.parse(answer.body)
  } catch {
    said = undefined
  }
  const { token, access_token: access, refresh_token: refresh } = isMembers(said) ? said : {}
  const given = [token, access].find((one) => typeof one === 'string' && /^[\x21-\x7e]{1,65536}$/.test(one))
  if (typeof given !== 'string') throw new CliError(`${realm.host} gave no token for ${registry.host}`)
  return { token: given, identity: typeof refresh === 'string' && refresh !== '' ? refresh : undefined }
}

function realmOf(registry: URL, text: string): URL {
  const realm = URL.canParse(text) ? new URL(text) : undefined
  const isOwn = realm?.protocol === 'http:' && registry.protocol === 'http:' && realm.hostname === registry.hostname
  const isSafe = realm?.protocol === 'https:' || isOwn
  if (realm === undefined || !isSafe || realm.username !== '' || realm.password !== '')
    throw new CliError(
      `${registry.host} wants the password sent to ${JSON.stringify(text.slice(0, 300))}, which is no https:// address: it is not sent`,
    )
  return realm
}

async function routeTo(realm: URL, registry: URL, route: Route): Promise<Route> {
  if (realm.host === registry.host) return route
  const addresses = await addressesOf(realm.hostname)
  if (route.addresses.every(isPublic) && !addresses.every(isPublic))
    throw new CliError(
      `${registry.host} wants the password sent to ${realm.host}, which is in a private network: it is not sent`,
    )
  // --insecure is for the registry's own host, and not for hosts to which it leads.
  return { addresses, tls: realm.hostname === registry.hostname ? route.tls : authorities(realm.host) }
}

/** The system's, those that come with Node.js, and docker's for this registry (certs.d). */
function authorities(server: string): ConnectionOptions {
  const { getCACertificates } = process.getBuiltinModule('node:tls')
  return {
    ca: [
      ...getCACertificates('default'),
      ...getCACertificates('system'),
      ...ownAuthorities(join(CERTIFICATES, server)),
    ],
    // Without it the variable NODE_TLS_REJECT_UNAUTHORIZED decides.
    rejectUnauthorized: true,
  }
}

function ownAuthorities(folder: string): string[] {
  try {
    return readdirSync(folder)
      .filter((name) => name.endsWith('.crt'))
      .map((name) => readFileSync(join(folder, name), 'utf8'))
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined
    if (code === 'ENOENT' || code === 'ENOTDIR') return []
    throw error
  }
}
