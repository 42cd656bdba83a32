import { spawn } from 'node:child_process'
import { accessSync, constants, statSync } from 'node:fs'
import { isAbsolute, join } from 'node:path'
import type { RegistryAuth } from '@strata/api'
import { CliError, reasonOf } from '../errors.js'
import { isMembers } from './docker-config.js'

/*
 * docker's credential helpers: programs `docker-credential-NAME` that keep logins
 * (docker/docker-credential-helpers, "Development"). One is called with `get`, `store` or `erase`,
 * reads its input from stdin, and answers on stdout; stderr is the user's terminal, for what it may
 * have to ask.
 */

/** Bounds of a helper: bytes of its answer, and its time. It may ask the user for a passphrase. */
export const HELPER_LIMITS = { maxBytes: 64 * 1024, maxMs: 120_000 }
type Limits = typeof HELPER_LIMITS
type Action = 'get' | 'store' | 'erase'

const NAME = /^[A-Za-z0-9._-]{1,100}$/
/** A helper says this if it has no login for the server. */
const NOT_FOUND = 'credentials not found in native keychain'
/** Whose "password" is an identity token. */
const TOKEN_USER = '<token>'

export class CredentialHelper {
  readonly #program: string
  readonly #path: string

  /** @throws CliError if there is no such program */
  constructor(
    name: unknown,
    private readonly environment: NodeJS.ProcessEnv,
    private readonly limits: Limits = HELPER_LIMITS,
  ) {
    if (typeof name !== 'string' || !NAME.test(name))
      throw new CliError(`docker's configuration names no credential helper by ${JSON.stringify(name).slice(0, 150)}`)
    this.#program = `docker-credential-${name}`
    this.#path = findProgram(this.#program, environment['PATH'] ?? '')
  }

  /** `undefined`: it has none for this server. */
  async get(server: string): Promise<RegistryAuth | undefined> {
    const { output, end } = await this.#run('get', server)
    if (end !== 0) {
      if (output.trim() === NOT_FOUND) return undefined
      throw this.#failed('get', end, output)
    }
    let answer: unknown
    try {
      answer = JSON.parse(output)
    } catch {
      answer = undefined
    }
    const { Username: user, Secret: secret } = isMembers(answer) ? answer : {}
    // Not quoted: it may be the secret.
    if (typeof user !== 'string' || typeof secret !== 'string')
      throw new CliError(`${this.#program} get did not answer with a user name and a secret`)
    return user === TOKEN_USER ? { identitytoken: secret } : { username: user, password: secret }
  }

  async store(server: string, { username, password, identitytoken }: RegistryAuth): Promise<void> {
    const token = identitytoken || undefined
    const login = { ServerURL: server, Username: token ? TOKEN_USER : username, Secret: token ?? password }
    await this.#done('store', `${JSON.stringify(login)}\n`)
  }

  async erase(server: string): Promise<void> {
    await this.#done('erase', server)
  }

  async #done(action: Action, input: string): Promise<void> {
    const { output, end } = await this.#run(action, input)
    if (end !== 0) throw this.#failed(action, end, output)
  }

  #failed(action: Action, end: number | string | null, output: string): CliError {
    const said = output.trim().slice(0, 500)
    return new CliError(`${this.#program} ${action} failed (${end ?? 'no exit code'})${said === '' ? '' : `: ${said}`}`)
  }

  async #run(action: Action, input: string): Promise<{ output: string; end: number | NodeJS.Signals | null }> {
    const { maxBytes, maxMs } = this.limits
    const child = spawn(this.#path, [action], { stdio: ['pipe', 'pipe', 'inherit'], env: this.environment })
    const chunks: Buffer[] = []
    let size = 0
    return new Promise((resolve, reject) => {
      const refuse = (why: string, cause?: unknown): void => {
        clearTimeout(timer)
        child.kill('SIGKILL')
        // Programs that it has started may hold its output open.
        child.stdout.destroy()
        child.unref()
        reject(new CliError(`${this.#program} ${action} ${why}`, { cause }))
      }
      const timer = setTimeout(() => refuse(`took longer than ${maxMs / 1000} seconds`), maxMs)
      child.once('error', (error) => refuse(`could not be started: ${reasonOf(error)}`, error))
      child.stdout.on('data', (chunk: Buffer) => {
        size += chunk.length
        if (size > maxBytes) refuse(`answered with more than ${maxBytes} bytes`)
        else chunks.push(chunk)
      })
      child.once('close', (code, signal) => {
        clearTimeout(timer)
        resolve({ output: Buffer.concat(chunks).toString(), end: code ?? signal })
      })
      // One that reads none of its input is free to.
      child.stdin.on('error', () => undefined)
      child.stdin.end(input)
    })
  }
}

/** Looks in PATH as a shell does, but never in the working directory: others may write there. */
function findProgram(name: string, path: string): string {
  for (const folder of path.split(':').filter(isAbsolute)) {
    const file = join(folder, name)
    try {
      accessSync(file, constants.X_OK)
      if (statSync(file).isFile()) return file
    } catch {
      continue
    }
  }
  throw new CliError(
    `the credential helper ${name}, which docker's configuration names, is not in PATH: install it, or take it out of the configuration`,
  )
}
