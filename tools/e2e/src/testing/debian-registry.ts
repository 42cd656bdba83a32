import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { digestOf, type Digest } from '@strata/oci'
import { freePort } from '@strata/store/testing'
import { until } from './strata.js'

export interface Part {
  readonly mediaType: string
  readonly digest: Digest
  readonly size: number
}

/** Why Debian's registry cannot be run here; `undefined` if it can. */
export function whyNoDebianRegistry(): string | undefined {
  return existsSync('/usr/bin/docker-registry') ? undefined : 'it needs Debian’s package docker-registry'
}

/** A registry that a client fills: its address, and what says who asks. */
export class RegistryFiller {
  constructor(
    readonly host: string,
    private readonly authorization?: string,
  ) {}

  async blob(repository: string, bytes: Buffer, mediaType: string): Promise<Part> {
    const digest = digestOf(bytes)
    const begun = await this.#ask('POST', `/v2/${repository}/blobs/uploads/`, undefined, 202)
    const location = new URL(begun.headers.get('location') ?? '', `http://${this.host}`)
    location.searchParams.set('digest', digest)
    await this.#ask('PUT', location.pathname + location.search, bytes, 201)
    return { mediaType, digest, size: bytes.length }
  }

  async manifest(repository: string, document: { mediaType: string }, tag?: string): Promise<Part> {
    const { mediaType } = document
    const bytes = Buffer.from(JSON.stringify(document))
    const digest = digestOf(bytes)
    await this.#ask('PUT', `/v2/${repository}/manifests/${tag ?? digest}`, bytes, 201, mediaType)
    return { mediaType, digest, size: bytes.length }
  }

  async #ask(
    method: string,
    path: string,
    body: Buffer | undefined,
    status: number,
    type = 'application/octet-stream',
  ) {
    const answer = await fetch(`http://${this.host}${path}`, {
      method,
      headers: { 'content-type': type, ...(this.authorization ? { authorization: this.authorization } : {}) },
      ...(body ? { body: new Uint8Array(body) } : {}),
    })
    if (answer.status !== status) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`)
    await answer.arrayBuffer()
    return answer
  }
}

/** Debian's `docker-registry` on a free port of this machine, with blobs in a folder. */
export class DebianRegistry {
  private constructor(
    readonly host: string,
    readonly folder: string,
    private readonly child: ChildProcess,
    readonly fill: RegistryFiller,
  ) {}

  /** `user`: who alone may ask, as `name:password`. */
  static async start(folder: string, user?: string): Promise<DebianRegistry> {
    await mkdir(folder, { recursive: true })
    const host = `127.0.0.1:${await freePort()}`
    const config = [
      'version: 0.1',
      'log: { accesslog: { disabled: true }, level: error }',
      `storage: { filesystem: { rootdirectory: ${join(folder, 'data')} }, delete: { enabled: true } }`,
      `http: { addr: '${host}', relativeurls: true }`,
    ]
    if (user !== undefined) {
      const [name = '', password = ''] = user.split(':')
      const file = join(folder, 'htpasswd')
      await writeFile(file, execFileSync('htpasswd', ['-Bbn', name, password]))
      config.push(`auth: { htpasswd: { realm: test, path: ${file} } }`)
    }
    await writeFile(join(folder, 'config.yml'), config.join('\n'))
    const child = spawn('/usr/bin/docker-registry', ['serve', join(folder, 'config.yml')], { stdio: 'ignore' })
    const answers = async (): Promise<boolean> => {
      const answer = await fetch(`http://${host}/v2/`).catch(() => undefined)
      return answer?.status === 200 || answer?.status === 401
    }
    await until(answers, 'docker-registry answers')
    const authorization = user === undefined ? undefined : `Basic ${Buffer.from(user).toString('base64')}`
    return new DebianRegistry(host, folder, child, new RegistryFiller(host, authorization))
  }

  async stop(): Promise<void> {
    const gone = once(this.child, 'exit')
    this.child.kill('SIGKILL')
    await gone
    await rm(this.folder, { recursive: true, force: true })
  }
}
