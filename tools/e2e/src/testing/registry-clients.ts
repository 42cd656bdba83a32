import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { digestOf } from '@strata/oci'

const BIN = fileURLToPath(new URL('../../../../.tools/bin/', import.meta.url))

/** Built from pinned source (tools/setup/go-programs.mjs). */
export type RegistryClient = 'crane' | 'oras' | 'regctl' | 'helm' | 'cosign'

/** Why this client cannot be run here; `undefined` if it can. */
export function whyNoClient(client: RegistryClient): string | undefined {
  if (existsSync(join(BIN, client))) return undefined
  return `it needs ${client}: install Go and run \`node tools/setup/go-programs.mjs ${client}\``
}

/**
 * The clients of one user, with a home folder in which docker's configuration has the credentials
 * of one registry. All of them read that.
 */
export class RegistryClients {
  readonly #environment: NodeJS.ProcessEnv

  private constructor(readonly home: string) {
    const folders = { HOME: home, DOCKER_CONFIG: join(home, '.docker'), TMPDIR: home, XDG_RUNTIME_DIR: home }
    this.#environment = { PATH: process.env['PATH'], COSIGN_PASSWORD: 'of the test', ...folders }
  }

  static async in(home: string, host: string, credentials: string): Promise<RegistryClients> {
    await mkdir(join(home, '.docker'), { recursive: true })
    const auths = { [host]: { auth: Buffer.from(credentials).toString('base64') } }
    await writeFile(join(home, '.docker', 'config.json'), JSON.stringify({ auths }))
    return new RegistryClients(home)
  }

  /** Gives what it writes to stdout. The error of one that fails has its stderr. */
  run(client: RegistryClient, ...args: string[]): string {
    return execFileSync(join(BIN, client), args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      encoding: 'utf8',
      env: this.#environment,
      cwd: this.home,
    }).trim()
  }
}

/** An image layout on disk: what its only name stands for, and its blobs. */
export interface LayoutFolder {
  readonly digest: string
  readonly blobs: readonly string[]
}

/** Reads a layout that a client has written, and compares each blob with its digest. */
export async function layoutIn(folder: string): Promise<LayoutFolder> {
  const { manifests } = JSON.parse(await readFile(join(folder, 'index.json'), 'utf8')) as {
    manifests: { digest: string; annotations?: Record<string, string> }[]
  }
  // Some clients list what is below it, too.
  const named = manifests.filter(({ annotations }) => annotations?.['org.opencontainers.image.ref.name'] !== undefined)
  const [top, ...others] = manifests.length === 1 ? manifests : named
  if (!top || others.length > 0) throw new Error(`${folder} has ${manifests.length} manifests, ${named.length} named`)
  const names = await readdir(join(folder, 'blobs', 'sha256'))
  for (const name of names) {
    const digest = digestOf(await readFile(join(folder, 'blobs', 'sha256', name)))
    if (digest !== `sha256:${name}`) throw new Error(`${folder} has ${digest} as ${name}`)
  }
  return { digest: top.digest, blobs: names.sort() }
}
