import {
  cpSync,
  existsSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { ROOT, readComposeFile } from '../compose-file.js'
import type { TestHost } from './host.js'
import { goEnvironment, goRoot, run, TOOLS } from './programs.js'

const RECIPES = join(ROOT, 'tools/deploy/base-images')

/**
 * The images that docker-compose.yml and the Dockerfiles take from a registry, made on this machine
 * from Debian's packages, npm's and the Go module proxy's, under the same names: for a machine that
 * can pull none. They do what the real ones do as far as Strata uses them; their versions are
 * Debian's. They trust what this machine trusts.
 */
export function makeBaseImages(host: TestHost): void {
  const wanted = baseImages()
  for (const debian of new Set(wanted.map(({ debian }) => debian))) importDebian(host, debian)
  for (const image of wanted) if (image.name !== 'debian') buildRecipe(host, image)
}

interface BaseImage {
  /** Such as "golang:1.24-bookworm". */
  readonly reference: string
  readonly name: string
  /** What precedes Debian's release in the tag; empty for Debian itself. */
  readonly version: string
  /** Debian's release, such as "bookworm". */
  readonly debian: string
}

/** Every image that is neither built here nor a stage of a Dockerfile. */
export function baseImages(): BaseImage[] {
  const services = Object.values(readComposeFile().services)
  const references = new Set(services.filter(({ build }) => build === undefined).map(({ image }) => image))
  const built = new Set(services.filter(({ build }) => build !== undefined).map(({ image }) => image))
  for (const file of globSync('infra/*/Dockerfile', { cwd: ROOT }))
    for (const reference of basesOf(readFileSync(join(ROOT, file), 'utf8'))) references.add(reference)
  return [...references].filter((reference) => !built.has(reference)).map(parseBase)
}

/** What the FROM lines of a Dockerfile name, with the ARGs before the first one replaced. */
export function basesOf(dockerfile: string): string[] {
  const args = new Map<string, string>()
  for (const [, name = '', value = ''] of dockerfile.matchAll(/^ARG (\w+)=(\S+)$/gm)) args.set(name, value)
  const lines = [...dockerfile.matchAll(/^FROM (?:--\S+ )*(\S+)(?: AS (\S+))?$/gim)]
  const stages = new Set(lines.map(([, , stage]) => stage))
  return lines
    .map(([, image = '']) =>
      image.replace(/\$\{(\w+)\}|\$(\w+)/g, (_, a?: string, b?: string) => args.get(a ?? b!) ?? ''),
    )
    .filter((image) => !stages.has(image))
}

function parseBase(reference: string): BaseImage {
  const [, name, tag] = /^(?:docker\.io\/)?(?:library\/)?([\w.-]+):([\w.-]+)/.exec(reference) ?? []
  if (name === undefined || tag === undefined)
    throw new Error(`${reference}: no image that tools/deploy/base-images could make`)
  const words = tag.split('-').filter((word) => word !== 'slim')
  const debian = words.find((word) => /^(bookworm|trixie)$/.test(word)) ?? 'bookworm'
  return { reference, name, debian, version: words.filter((word) => word !== debian).join('-') }
}

/** The tar of Debian's minimal system is kept, for a week: then what it has is made anew. */
function importDebian(host: TestHost, debian: string): void {
  const reference = `debian:${debian}-slim`
  if (host.docker('image', 'inspect', reference).status === 0) return
  const week = Math.floor(Date.now() / (7 * 24 * 3600 * 1000))
  const tar = join(TOOLS, `debian-${debian}-${String(week)}.tar`)
  if (!existsSync(tar)) {
    mkdirSync(TOOLS, { recursive: true })
    for (const old of globSync(join(TOOLS, `debian-${debian}-*.tar`))) rmSync(old)
    run('mmdebstrap', ['--quiet', '--variant=apt', debian, `${tar}.part.tar`])
    run('mv', [`${tar}.part.tar`, tar])
  }
  succeed(host.docker('import', '--change', 'CMD ["bash"]', tar, reference))
}

function buildRecipe(host: TestHost, { reference, name, version, debian }: BaseImage): void {
  const recipe = join(RECIPES, name)
  if (!existsSync(recipe)) throw new Error(`${reference}: tools/deploy/base-images has no folder ${name}`)
  const context = mkdtempSync(join(host.folder, 'context-'))
  try {
    cpSync(recipe, context, { recursive: true })
    CONTEXTS[name]?.(context, version)
    succeed(host.docker('build', '-q', '--build-arg', `DEBIAN=${debian}`, '-t', reference, context))
  } finally {
    rmSync(context, { recursive: true, force: true })
  }
}

/** What a recipe needs of this machine. */
const CONTEXTS: Readonly<Record<string, (context: string, version: string) => void>> = {
  node(context, version) {
    const node = join(ROOT, 'node_modules/node/bin/node')
    const has = run(node, ['--version']).trim()
    if (has !== `v${version}`) throw new Error(`the Dockerfile asks for Node.js ${version}, the checkout has ${has}`)
    cpSync(node, join(context, 'node'))
    // `npm root --global` would tell of the Node that is first in the path, which may have none.
    const npm = realpathSync(run('sh', ['-c', 'command -v npm']).trim())
    copyTree(join(npm, '../..'), join(context, 'npm'))
    machine(context)
    writeFileSync(join(context, 'machine/npmrc'), `registry=${run('npm', ['config', 'get', 'registry']).trim()}\n`)
  },
  golang(context, version) {
    copyTree(goRoot(version), join(context, 'go'))
    machine(context)
    writeFileSync(join(context, 'machine/go.env'), goEnvironment())
  },
}

/** Go's module cache is read-only, folders too: `cpSync` would fail in its own copies. */
function copyTree(from: string, to: string): void {
  run('cp', ['-R', '--dereference', from, to])
  run('chmod', ['-R', 'u+w', to])
}

function machine(context: string): void {
  mkdirSync(join(context, 'machine'))
  const certificates = process.env['SSL_CERT_FILE'] ?? '/etc/ssl/certs/ca-certificates.crt'
  cpSync(certificates, join(context, 'machine/ca-certificates.crt'), { dereference: true })
}

function succeed({ status, stdout, stderr }: { status: number | null; stdout: string; stderr: string }): void {
  if (status !== 0) throw new Error(`docker: exit ${String(status)}\n${stdout}${stderr}`)
}
