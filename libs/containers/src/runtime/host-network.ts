import { readlinkSync, statSync } from 'node:fs'
import { StrataError } from '@strata/base'

/** The root directory of the process whose network is the host's: its `/etc` says who is where. */
export const HOST_ROOT = '/proc/1/root'
const HOST_NETWORK = '/proc/1/ns/net'

/**
 * The network namespace of `network: host`, as a path for the runtime; `undefined` if it is ours.
 *
 * The host's is that of process 1, and not ours: in a container of an engine the service has one of
 * its own, through which it reaches the store and Redis. A launched container must reach neither,
 * and keeps its network when the service's container goes. Process 1 is the host's where the
 * service is in the host's PID namespace; otherwise "the host" is the container that it runs in.
 * @throws StrataError `launch_failed` if it is another one and we may not enter it
 */
export function hostNetwork(): string | undefined {
  if (isOurs()) return undefined
  try {
    readlinkSync(HOST_NETWORK)
    return HOST_NETWORK
  } catch (cause) {
    throw new StrataError(
      'launch_failed',
      `the host's network is not this node's own, and ${HOST_NETWORK} cannot be opened: give the runtime CAP_SYS_PTRACE, or the host's network, or launch without --network host`,
      { cause },
    )
  }
}

/**
 * Told by /proc's own files of a namespace, which are the same file for all processes in it. To
 * read the namespaces' links needs more rights, which a service in the right one may lack.
 */
function isOurs(): boolean {
  try {
    return statSync('/proc/1/net/dev').ino === statSync('/proc/self/net/dev').ino
  } catch {
    return false // we may not even see process 1
  }
}
