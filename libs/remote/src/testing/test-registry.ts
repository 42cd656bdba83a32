import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createSecureServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { digestOf, parseReference, MEDIA, type Digest, type Repository } from '@strata/oci'

/** Answers a request itself, or leaves it to the registry by `false`. */
export type Behaviour = (request: IncomingMessage, answer: ServerResponse) => boolean | Promise<boolean>

/** What came in: one line of it, and its headers. */
interface Seen {
  readonly line: string
  readonly headers: IncomingMessage['headers']
}

/**
 * A registry on the loopback with whatever a test puts into it. It behaves, unless `behave` answers
 * in its stead.
 */
export class TestRegistry implements AsyncDisposable {
  readonly seen: Seen[] = []
  readonly blobs = new Map<string, Buffer>()
  /** By tag and by digest. */
  readonly manifests = new Map<string, { readonly type: string; readonly bytes: Buffer }>()
  tags: readonly string[] = []
  knowsRanges = true
  behave: Behaviour = () => false
  readonly #server: ReturnType<typeof createServer> | ReturnType<typeof createSecureServer>

  private constructor(
    private readonly tls: { readonly key: string; readonly cert: string; readonly ca?: string } | undefined,
  ) {
    const listener = (request: IncomingMessage, answer: ServerResponse): void => {
      this.seen.push({ line: `${request.method ?? ''} ${request.url ?? ''}`, headers: request.headers })
      answer.on('error', () => undefined)
      void Promise.try(this.behave, request, answer).then((isDone) => {
        if (!isDone) this.#serve(request, answer)
      })
    }
    this.#server = tls
      ? createSecureServer({ ...tls, ...(tls.ca ? { requestCert: true, rejectUnauthorized: false } : {}) }, listener)
      : createServer(listener)
  }

  static async start(tls?: {
    readonly key: string
    readonly cert: string
    readonly ca?: string
  }): Promise<TestRegistry> {
    const registry = new TestRegistry(tls)
    await once(registry.#server.listen(0, '127.0.0.1'), 'listening')
    return registry
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  /** As a registry is named. */
  get host(): string {
    return `127.0.0.1:${this.port}`
  }

  get url(): string {
    return `${this.tls ? 'https' : 'http'}://${this.host}`
  }

  /** The name of its only repository. */
  get repository(): Repository {
    return parseReference(`${this.host}/fx/app`).repository
  }

  get lines(): string[] {
    return this.seen.map(({ line }) => line)
  }

  addBlob(bytes: Buffer): { readonly digest: Digest; readonly size: number } {
    const digest = digestOf(bytes)
    this.blobs.set(digest, bytes)
    return { digest, size: bytes.length }
  }

  addManifest(tag: string, manifest: object, type: string = MEDIA.manifest): Digest {
    const bytes = Buffer.from(JSON.stringify(manifest))
    const digest = digestOf(bytes)
    for (const name of [tag, digest]) this.manifests.set(name, { type, bytes })
    return digest
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections()
    this.#server.close()
    await once(this.#server, 'close')
  }

  #serve(request: IncomingMessage, answer: ServerResponse): void {
    const [path = ''] = (request.url ?? '').split('?')
    const [, kind, name = ''] = /^\/v2\/fx\/app\/(manifests|blobs|tags)\/(.*)$/.exec(path) ?? []
    const manifest = this.manifests.get(name)
    const blob = this.blobs.get(name)
    if (kind === 'manifests' && manifest) answer.writeHead(200, { 'content-type': manifest.type }).end(manifest.bytes)
    else if (kind === 'blobs' && blob) serveBytes(blob, request, answer, this.knowsRanges)
    else if (kind === 'tags') answer.end(JSON.stringify({ name: 'fx/app', tags: this.tags }))
    else answer.writeHead(404).end(JSON.stringify({ errors: [{ code: 'UNKNOWN', message: 'not here' }] }))
  }
}

/** A blob, or the range of it that was asked for. */
export function serveBytes(bytes: Buffer, request: IncomingMessage, answer: ServerResponse, knowsRanges = true): void {
  const [, from, to] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') ?? []
  if (!knowsRanges || from === undefined) {
    answer.writeHead(200, { 'content-length': bytes.length }).end(bytes)
    return
  }
  const start = Number(from)
  const end = to ? Number(to) + 1 : bytes.length
  answer
    .writeHead(206, { 'content-length': end - start, 'content-range': `bytes ${start}-${end - 1}/${bytes.length}` })
    .end(bytes.subarray(start, end))
}

/** A certificate that vouches for itself, of 127.0.0.1, localhost and the name `CN`. */
export function selfSigned(name = 'localhost'): { readonly key: string; readonly cert: string } {
  const folder = mkdtempSync(join(tmpdir(), 'strata-remote-tls-'))
  try {
    const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')]
    execFileSync(
      'openssl',
      [
        ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'],
        ...[
          '-subj',
          `/CN=${name}`,
          '-addext',
          'subjectAltName=DNS:localhost,IP:127.0.0.1',
          '-keyout',
          key,
          '-out',
          cert,
        ],
      ],
      { stdio: 'ignore' },
    )
    return { key: readFileSync(key, 'utf8'), cert: readFileSync(cert, 'utf8') }
  } finally {
    rmSync(folder, { recursive: true })
  }
}
