import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parse } from 'yaml'

export const ROOT = join(import.meta.dirname, '../../..')
const COMPOSE_FILE = join(ROOT, 'docker-compose.yml')

/** Of a service in docker-compose.yml, what is looked at here. */
export interface ComposeService {
  readonly image: string
  readonly build?: string | { readonly context: string; readonly dockerfile: string; readonly target?: string }
  readonly entrypoint?: readonly string[]
  readonly command?: readonly string[]
  readonly environment?: Readonly<Record<string, string | number>>
  readonly volumes?: readonly string[]
  readonly networks?: readonly string[]
  readonly network_mode?: string
  readonly ports?: readonly string[]
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>> | readonly string[]
  readonly healthcheck?: { readonly test: readonly string[] }
  readonly user?: string
  readonly read_only?: boolean
  readonly tmpfs?: readonly string[]
  readonly cap_drop?: readonly string[]
  readonly cap_add?: readonly string[]
  readonly security_opt?: readonly string[]
  readonly device_cgroup_rules?: readonly string[]
  readonly devices?: readonly string[]
  readonly pids_limit?: number
  readonly mem_limit?: string | number
  readonly logging?: { readonly driver: string; readonly options: Readonly<Record<string, string>> }
  readonly privileged?: boolean
  readonly pid?: string
  readonly restart?: string
}
export interface ComposeFile {
  readonly name: string
  readonly services: Readonly<Record<string, ComposeService>>
  readonly volumes: Readonly<Record<string, unknown>>
  readonly networks: Readonly<Record<string, { readonly internal?: boolean }>>
}

/**
 * docker-compose.yml with its aliases merged and `${NAME:-default}` replaced, as compose does it.
 */
export function readComposeFile(environment: Readonly<Record<string, string>> = {}): ComposeFile {
  const text = readFileSync(COMPOSE_FILE, 'utf8')
    .replace(/\$\{([A-Z_]+):-([^}]*)\}/g, (_, name: string, absent: string) => environment[name] || absent)
    .replaceAll('$$', '$')
  return parse(text, { merge: true }) as ComposeFile
}

/** Host side and container side of `a:b[:mode]`. */
export function mountOf(volume: string): { readonly source: string; readonly target: string; readonly mode: string } {
  const [source = '', target = '', mode = 'rw'] = volume.split(':')
  return { source, target, mode }
}
