import { spawn, type ChildProcess } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Client } from 'minio'
import type { PartialUploads } from '../objects/object-store.js'
import type { S3Config } from '../s3/s3-client.js'
import { freePort } from './free-port.js'

export const S3_SERVERS = ['minio', 'versitygw'] as const
export type S3Server = (typeof S3_SERVERS)[number]

const BIN = fileURLToPath(new URL('../../../../.tools/bin/', import.meta.url))
const GIVEN = process.env['STRATA_TEST_S3']

/**
 * Why this server cannot be started here; `undefined` if it can, or if `STRATA_TEST_S3` names one
 * that is there and takes its place.
 */
export function whyNoTestS3(server: S3Server): string | undefined {
  if (GIVEN !== undefined || existsSync(join(BIN, server))) return undefined
  return howToGet(server)
}

function howToGet(server: S3Server): string {
  return `it needs ${server}: install Go 1.24 or later and run \`node tools/setup/go-programs.mjs\`, or set STRATA_TEST_S3=http://ACCESS_KEY:SECRET_KEY@HOST:PORT`
}

/**
 * An S3 server for tests: a real one on a free port of 127.0.0.1, with keys, a bucket's name and a
 * folder of its own. With `STRATA_TEST_S3` it is the one named there, a bucket of it, and can be
 * neither killed nor started.
 */
export class TestS3 {
  readonly region = 'us-east-1'
  readonly bucket = `strata-${randomUUID()}`
  #process: ChildProcess | undefined

  private constructor(
    readonly server: S3Server,
    readonly endpoint: string,
    readonly accessKey: string,
    readonly secretKey: string,
    /** Where it keeps everything; `undefined` with `STRATA_TEST_S3`. */
    readonly folder: string | undefined,
  ) {}

  /** The bucket is not made: opening a store does that. @throws what `whyNoTestS3` says */
  static async start(server: S3Server = 'minio', below = tmpdir()): Promise<TestS3> {
    if (GIVEN === undefined) return TestS3.startOwn(server, below)
    const { origin, username, password } = new URL(GIVEN)
    return new TestS3(server, origin, decodeURIComponent(username), decodeURIComponent(password), undefined)
  }

  /** One that can be killed, whatever `STRATA_TEST_S3` says. */
  static async startOwn(server: S3Server = 'minio', below = tmpdir()): Promise<TestS3> {
    if (!existsSync(join(BIN, server))) throw new Error(howToGet(server))
    const key = (): string => randomBytes(12).toString('hex')
    const one = new TestS3(
      server,
      `http://127.0.0.1:${await freePort()}`,
      key(),
      key(),
      mkdtempSync(join(below, 'strata-s3-')),
    )
    await one.start()
    return one
  }

  /** What `S3Store.open` takes, with changes. */
  config(changes: Partial<S3Config> = {}): S3Config {
    const { endpoint, region, accessKey, secretKey, bucket } = this
    return { endpoint, region, accessKey, secretKey, bucket, ...changes }
  }

  /** What a service needs to use the bucket as its store. */
  environment(): NodeJS.ProcessEnv {
    return {
      STRATA_STORE: `s3://${this.bucket}`,
      STRATA_S3_ENDPOINT: this.endpoint,
      STRATA_S3_REGION: this.region,
      STRATA_S3_ACCESS_KEY: this.accessKey,
      STRATA_S3_SECRET_KEY: this.secretKey,
    }
  }

  /** As `STRATA_TEST_S3` names it to others. */
  get url(): string {
    return this.endpoint.replace('://', `://${this.accessKey}:${this.secretKey}@`)
  }

  /** False with `STRATA_TEST_S3`: `kill` and `start` throw. */
  get own(): boolean {
    return this.folder !== undefined
  }

  /** The server's process; `undefined` while it is down. */
  get pid(): number | undefined {
    return this.#process?.pid
  }

  /** Starts it again after `kill`, on the same port and folder. Resolves when it serves. */
  async start(): Promise<void> {
    const { host, port } = new URL(this.endpoint)
    const folder = this.#ownFolder()
    const [args, env] =
      this.server === 'minio'
        ? [
            ['server', folder, '--address', host, '--quiet'],
            {
              MINIO_ROOT_USER: this.accessKey,
              MINIO_ROOT_PASSWORD: this.secretKey,
              MINIO_BROWSER: 'off',
              MINIO_UPDATE: 'off',
            },
          ]
        : [
            [
              '--access',
              this.accessKey,
              '--secret',
              this.secretKey,
              '--port',
              `127.0.0.1:${port}`,
              '--quiet',
              'posix',
              folder,
            ],
            {},
          ]
    const child = spawn(join(BIN, this.server), args, {
      env: { PATH: process.env['PATH'], HOME: folder, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    this.#process = child
    let said = ''
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk: Buffer) => (said = (said + chunk.toString()).slice(-4_000)))
    for (;;) {
      if (child.exitCode !== null || child.signalCode !== null) throw new Error(`${this.server} ended: ${said}`)
      if (await this.#serves()) return
      await delay(50)
    }
  }

  /** Kills it where it stands. Resolves when it is dead. */
  async kill(signal: 'SIGKILL' | 'SIGTERM' = 'SIGKILL'): Promise<void> {
    this.#ownFolder()
    const child = this.#process
    this.#process = undefined
    if (!child || child.exitCode !== null || child.signalCode !== null) return
    const exit = once(child, 'exit')
    child.kill(signal)
    await exit
  }

  /** Kills it and takes its folder away. Of a named server the bucket goes. */
  async remove(): Promise<void> {
    if (this.folder === undefined) return this.#removeBucket()
    await this.kill()
    rmSync(this.folder, { recursive: true, force: true })
  }

  async #removeBucket(): Promise<void> {
    const { hostname, port, protocol } = new URL(this.endpoint)
    const client = new Client({
      endPoint: hostname,
      ...(port === '' ? {} : { port: Number(port) }),
      useSSL: protocol === 'https:',
      region: this.region,
      accessKey: this.accessKey,
      secretKey: this.secretKey,
    })
    if (!(await client.bucketExists(this.bucket))) return
    const names: string[] = []
    for await (const { name } of client.listObjectsV2(this.bucket, '', true) as AsyncIterable<{ name: string }>)
      names.push(name)
    if (names.length > 0) await client.removeObjects(this.bucket, names)
    for await (const { key } of client.listIncompleteUploads(this.bucket, '', true) as AsyncIterable<{ key: string }>)
      await client.removeIncompleteUpload(this.bucket, key)
    await client.removeBucket(this.bucket)
  }

  async #serves(): Promise<boolean> {
    try {
      const answer = await fetch(this.server === 'minio' ? `${this.endpoint}/minio/health/ready` : this.endpoint, {
        signal: AbortSignal.timeout(2_000),
      })
      await answer.arrayBuffer()
      return this.server === 'minio' ? answer.ok : answer.status < 500
    } catch {
      return false
    }
  }

  #ownFolder(): string {
    if (this.folder === undefined) throw new Error('the server that STRATA_TEST_S3 names cannot be killed or started')
    return this.folder
  }
}

/** The keys of what is being put in parts. */
export async function partialKeys(store: PartialUploads): Promise<string[]> {
  const keys: string[] = []
  for await (const { key } of store.listPartial()) keys.push(key)
  return keys
}
