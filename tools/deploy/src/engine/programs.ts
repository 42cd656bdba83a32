import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { ROOT } from '../compose-file.js'

/** `.tools` of the checkout: what is built once, and kept under a name that has its version. */
export const TOOLS = join(ROOT, '.tools')

const COMPOSE = { module: 'github.com/docker/compose/v2', version: 'v2.40.3' }

/**
 * The path of compose v2 as a plugin of docker's CLI, built from the Go module proxy at the first
 * call: Debian has compose 1.29 only. `go install MODULE@VERSION` refuses this module for the
 * `exclude` lines in its go.mod, so it is built in its folder in the module cache.
 */
export function composePlugin(): string {
  const plugin = join(TOOLS, `docker-compose-${COMPOSE.version}`)
  if (existsSync(plugin)) return plugin
  mkdirSync(TOOLS, { recursive: true })
  const { Dir: source } = JSON.parse(go('mod', 'download', '-json', `${COMPOSE.module}@${COMPOSE.version}`)) as {
    Dir: string
  }
  const flags = `-s -w -X ${COMPOSE.module}/internal.Version=${COMPOSE.version}`
  go('build', '-C', source, '-trimpath', '-ldflags', flags, '-o', plugin, './cmd')
  return plugin
}

/**
 * The folder of the newest Go of a line, such as "1.24", from the Go module proxy: what the image
 * `golang:1.24` has.
 */
export function goRoot(line: string): string {
  const newest = go('list', '-m', '-versions', 'golang.org/toolchain')
    .trim()
    .split(' ')
    .map(
      (version) =>
        new RegExp(`-go(${line.replaceAll('.', '\\.')}(?:\\.\\d+)?)\\.linux-${architecture()}$`).exec(version)?.[1],
    )
    .filter((version) => version !== undefined)
    .sort((a, b) => Number(a.split('.')[2] ?? 0) - Number(b.split('.')[2] ?? 0))
    .at(-1)
  if (newest === undefined) throw new Error(`the Go module proxy has no Go ${line} for this machine`)
  return run('go', ['env', 'GOROOT'], { GOTOOLCHAIN: `go${newest}` }).trim()
}

/** What `go`, outside any module, is told of the module proxy on this machine. */
export function goEnvironment(): string {
  return ['GOPROXY', 'GOSUMDB'].map((name) => `${name}=${go('env', name).trim()}\n`).join('')
}

export function run(command: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): string {
  const { status, error, stdout, stderr } = spawnSync(command, args, {
    // Go reads the go.mod of the folder that it is called in.
    cwd: '/',
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    encoding: 'utf8',
    maxBuffer: 64 << 20,
  })
  if (status === 0) return stdout
  throw new Error(`${command} ${args.join(' ')}: ${error?.message ?? `exit ${String(status)}`}\n${stdout}${stderr}`)
}

function go(...args: string[]): string {
  return run('go', args, { GOFLAGS: '', GOGC: '400' })
}

function architecture(): string {
  return process.arch === 'x64' ? 'amd64' : process.arch
}
