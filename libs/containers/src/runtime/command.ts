import { StrataError } from '@strata/base'
import { type ImageConfig } from '@strata/oci'
import type { ContainerImage, ContainerRequest } from '../container.js'

type Config = ImageConfig['config']

/** execve(2) ends a string at NUL: what stands behind it would be silently lost. */
function refuseNul(words: readonly string[], what: string): void {
  if (words.some((word) => word.includes('\0'))) throw new StrataError('bad_request', `${what} holds a NUL character`)
}

/**
 * What to execute, by docker's rules (image-spec, conversion.md). `nothing_to_run` if neither image
 * nor request says.
 */
export function argsOf(image: Pick<ContainerImage, 'name' | 'config'>, request: ContainerRequest): string[] {
  const given = request.entrypoint
  const entrypoint = (given ?? image.config?.Entrypoint ?? []).filter(
    (word, i, all) => !(all.length === 1 && i === 0 && word === ''),
  )
  const command = request.command?.length ? request.command : given ? [] : (image.config?.Cmd ?? [])
  const args = [...entrypoint, ...command]
  if (args.length === 0)
    throw new StrataError(
      'nothing_to_run',
      `image ${image.name} names no command (neither Entrypoint nor Cmd): give one`,
    )
  refuseNul(args, 'the command')
  return args
}

const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/**
 * The environment: defaults, over them the image's, over them the request's. The last of a name
 * wins; a bare name removes.
 */
export function envOf(config: Config, request: ContainerRequest, facts: { hostname: string; home: string }): string[] {
  const env = new Map([
    ['PATH', PATH],
    ['HOSTNAME', facts.hostname],
    ['HOME', facts.home],
  ])
  refuseNul(config?.Env ?? [], "the image's environment")
  refuseNul(request.env ?? [], 'the environment')
  if (request.env?.some((entry) => entry === '' || entry.startsWith('=')))
    throw new StrataError('bad_request', 'a variable of the environment has no name')
  for (const entry of [...(config?.Env ?? []), ...(request.env ?? [])]) {
    const at = entry.indexOf('=')
    if (at < 0) env.delete(entry)
    else if (at > 0) env.set(entry.slice(0, at), entry.slice(at + 1))
  }
  return [...env].map(([name, value]) => `${name}=${value}`)
}

/**
 * The working directory as asked for: absolute, without `.` and `..`; the image's may be relative
 * to `/`.
 */
export function workdirOf(config: Config, request: ContainerRequest): string {
  if (request.workdir && !request.workdir.startsWith('/'))
    throw new StrataError('bad_request', `working directory ${JSON.stringify(request.workdir)} is not absolute`)
  const workdir = request.workdir || `/${config?.WorkingDir ?? ''}`
  refuseNul([workdir], 'the working directory')
  return workdir
}

const HOSTNAME = /^[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$/

/**
 * As docker: the request's, else the first 12 digits of the id; with the host's network the host's.
 */
export function hostnameOf(id: string, request: ContainerRequest, host: string): string {
  const { hostname } = request
  // It becomes a line of /etc/hosts, so nothing but a name may pass.
  if (hostname && !HOSTNAME.test(hostname))
    throw new StrataError(
      'bad_request',
      `${JSON.stringify(hostname.slice(0, 100))} is not a host name of at most 63 letters, digits, "-", "_" and "."`,
    )
  return hostname || (request.network === 'host' ? host : id.slice(0, 12))
}
