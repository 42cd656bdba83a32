import type { RegistryAuth } from '@strata/api'
import { broken, isMembers, readDockerConfig, writeAuths, type DockerConfig } from './docker-config.js'
import { CredentialHelper } from './helper.js'
import { hostOf, keyOf } from './server.js'

/**
 * The logins that docker and Strata share: docker's configuration of the user, and the programs
 * that it names. A host has one login.
 */
export class Logins {
  readonly #config: DockerConfig

  /** @throws CliError if docker's configuration cannot be used */
  constructor(private readonly environment: NodeJS.ProcessEnv) {
    this.#config = readDockerConfig(environment)
  }

  get path(): string {
    return this.#config.path
  }

  /** The login for a host, in the form of docker's API. */
  async find(host: string): Promise<RegistryAuth | undefined> {
    const key = keyOf(host)
    const helper = this.#helperOf(host)
    const found = helper ? await helper.get(key) : this.#inFile(host)
    return found && { ...found, serveraddress: key }
  }

  /** Keeps a login. `true`: in the file itself, where everyone who reads the file has it. */
  async store(host: string, login: RegistryAuth): Promise<boolean> {
    const helper = this.#helperOf(host)
    await helper?.store(keyOf(host), login)
    // docker names a server in the file also if a helper keeps its login.
    const config = readDockerConfig(this.environment)
    writeAuths(config, { ...otherThan(host, config), [keyOf(host)]: helper ? {} : entryOf(login) })
    return helper === undefined
  }

  /** Forgets the login for a host, by whichever key it is there. */
  async erase(host: string): Promise<void> {
    const helper = this.#helperOf(host)
    if (helper) await eraseAll(helper, host)
    const config = readDockerConfig(this.environment)
    const others = otherThan(host, config)
    if (Object.keys(others).length !== Object.keys(config.auths).length) writeAuths(config, others)
  }

  #helperOf(host: string): CredentialHelper | undefined {
    const { credHelpers, credsStore } = this.#config
    const name = memberOf(credHelpers, host) ?? credsStore
    return name === undefined || name === '' ? undefined : new CredentialHelper(name, this.environment)
  }

  #inFile(host: string): RegistryAuth | undefined {
    const { auths, path } = this.#config
    const entry = memberOf(auths, host)
    return entry === undefined ? undefined : loginOf(entry, (why) => broken(path, `its login for ${host} ${why}`))
  }
}

/**
 * The logins of all other hosts. The caller reads the file right before it writes: others may log
 * in while the user types a password.
 */
function otherThan(host: string, { auths }: DockerConfig): Record<string, unknown> {
  return Object.fromEntries(Object.entries(auths).filter(([key]) => hostOf(key) !== host))
}

/** As docker does: by every key that any release of it has given to the host. */
async function eraseAll(helper: CredentialHelper, host: string): Promise<void> {
  const key = keyOf(host)
  const keys = key === host ? [host, `http://${host}`, `https://${host}`] : [key]
  const failures: unknown[] = []
  for (const one of keys) await helper.erase(one).catch((error: unknown) => failures.push(error))
  if (failures.length === keys.length) throw failures[0]
}

/** The member of this host: by docker's key, or by the first other one that means the host. */
function memberOf(members: Readonly<Record<string, unknown>>, host: string): unknown {
  const key = keyOf(host)
  if (Object.hasOwn(members, key)) return members[key]
  return Object.entries(members).find(([other]) => hostOf(other) === host)?.[1]
}

const FIELDS = ['auth', 'username', 'password', 'identitytoken', 'registrytoken'] as const

/** A login as docker writes it: `auth` is `user:password` in base64 (docker/cli, decodeAuth). */
function loginOf(entry: unknown, wrong: (why: string) => Error): RegistryAuth | undefined {
  if (!isMembers(entry)) throw wrong('is no object')
  const said: Partial<Record<(typeof FIELDS)[number], string>> = {}
  for (const field of FIELDS) {
    const value = entry[field] ?? ''
    if (typeof value !== 'string') throw wrong(`has no text as "${field}"`)
    if (value !== '') said[field] = value
  }
  const { auth, ...login } = said
  if (auth === undefined) return Object.keys(login).length > 0 ? login : undefined
  const text = Buffer.from(auth, 'base64').toString()
  const [, username, password] = /^([^:]+):([^]*)$/.exec(text) ?? []
  if (!/^[A-Za-z0-9+/\s]+={0,2}\s*$/.test(auth) || username === undefined || password === undefined)
    throw wrong('has an "auth" that is no user name and password in base64')
  // Old releases of docker have filled it with NULs.
  return { ...login, username, password: password.replace(/^\0+|\0+$/g, '') }
}

function entryOf({ username = '', password = '', identitytoken }: RegistryAuth): object {
  return {
    auth: Buffer.from(`${username}:${password}`).toString('base64'),
    ...(identitytoken && { identitytoken }),
  }
}
