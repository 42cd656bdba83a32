import { CliError } from '../errors.js'

/** The key under which docker keeps what is for Docker Hub (docker/cli, config/configfile). */
const HUB_KEY = 'https://index.docker.io/v1/'
const HUB = 'docker.io'
/** The host names of Docker Hub: in image names, in docker's configuration, and of its registry. */
const HUB_HOSTS: readonly string[] = [HUB, 'index.docker.io', 'registry-1.docker.io']

/**
 * The host that a key of docker's configuration, or a server in a command, means: without a scheme,
 * a user and a path. All that Docker Hub is called is `docker.io`.
 */
export function hostOf(server: string): string {
  const host = /^(?:[A-Za-z][A-Za-z0-9+.-]*:\/\/)?(?:[^/@]*@)?([^/]*)/.exec(server)?.[1] ?? ''
  return HUB_HOSTS.includes(host) ? HUB : host
}

/** The key for a host, as docker writes it, and as helpers know it. */
export function keyOf(host: string): string {
  return host === HUB ? HUB_KEY : host
}

const HOST = /^(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?$/

/** The host of the server that a user names; Docker Hub's if there is none. */
export function serverHost(server = HUB): string {
  const host = hostOf(server)
  if (HOST.test(host)) return host
  throw new CliError(`${JSON.stringify(server)} is not a registry: give its host, as registry.example.com:5000`)
}
