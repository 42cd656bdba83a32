import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { digestOf } from '@strata/oci'

/** Distribution 3, where it was built (CONTRIBUTING.md). */
const BUILT = fileURLToPath(new URL('../../../../.tools/bin/registry', import.meta.url))
/** The CNCF's distribution, each with its program: Debian's of version 2, and that one. */
export const DISTRIBUTIONS = [
  ['docker-registry', 'docker-registry'],
  ...(existsSync(BUILT) ? [['distribution 3', BUILT] as const] : []),
] as const

/** A distribution on a port of its own, with its blobs in a folder of its own. */
export class Distribution implements AsyncDisposable {
  private constructor(
    private readonly child: ChildProcess,
    private readonly folder: string,
    /** As a registry is named. */
    readonly host: string,
  ) {}

  /** @param files by name: `auth` may name them with `FOLDER/` before. */
  static async start(
    program: string,
    { auth, files = {} }: { readonly auth: object; readonly files?: Readonly<Record<string, string>> },
  ): Promise<Distribution> {
    const folder = await mkdtemp(join(tmpdir(), 'strata-distribution-'))
    for (const [file, content] of Object.entries(files)) await writeFile(join(folder, file), content)
    const config = {
      version: 0.1,
      log: { level: 'info', formatter: 'text', accesslog: { disabled: true } },
      storage: { filesystem: { rootdirectory: join(folder, 'store') } },
      http: { addr: '127.0.0.1:0', secret: 'of the test' },
      auth,
    }
    // YAML is a superset of JSON.
    await writeFile(join(folder, 'config.yml'), JSON.stringify(config).replaceAll('FOLDER', folder))
    const child = spawn(program, ['serve', join(folder, 'config.yml')], {
      env: { PATH: process.env['PATH'], OTEL_TRACES_EXPORTER: 'none' },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    child.stdout.resume()
    const words: string[] = []
    for await (const line of createInterface(child.stderr)) {
      words.push(line)
      const port = /listening on 127\.0\.0\.1:(\d+)/.exec(line)?.[1]
      if (port === undefined) continue
      child.stderr.resume()
      return new Distribution(child, folder, `127.0.0.1:${port}`)
    }
    await rm(folder, { recursive: true })
    throw new Error(`${program} does not start: ${words.join('\n')}`)
  }

  /** Pushes as a client does, in one request for each blob. */
  async push(
    repository: string,
    tag: string,
    manifest: object,
    blobs: readonly Buffer[],
    authorization: string,
  ): Promise<void> {
    const root = `http://${this.host}/v2/${repository}`
    const expect = async (response: Response, status: number): Promise<Response> => {
      if (response.status !== status) throw new Error(`${response.url}: ${response.status} ${await response.text()}`)
      return response
    }
    for (const blob of blobs) {
      const begun = await fetch(`${root}/blobs/uploads/`, { method: 'POST', headers: { authorization } })
      const location = new URL((await expect(begun, 202)).headers.get('location')!, root)
      location.searchParams.set('digest', digestOf(blob))
      const headers = { authorization, 'content-type': 'application/octet-stream' }
      await expect(await fetch(location, { method: 'PUT', headers, body: new Uint8Array(blob) }), 201)
    }
    const type = (manifest as { mediaType: string }).mediaType
    const headers = { authorization, 'content-type': type }
    await expect(
      await fetch(`${root}/manifests/${tag}`, { method: 'PUT', headers, body: JSON.stringify(manifest) }),
      201,
    )
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.child.kill()
    if (this.child.exitCode === null && this.child.signalCode === null) await once(this.child, 'exit')
    await rm(this.folder, { recursive: true })
  }
}
