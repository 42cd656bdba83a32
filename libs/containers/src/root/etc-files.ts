import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Network } from '../container.js'
import { RootPaths } from './root-paths.js'

const LOCAL =
  '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n'

/**
 * Writes `/etc/hosts`, `/etc/resolv.conf` and `/etc/hostname` of a container into a folder of ours;
 * answers what is to be mounted where. Without a network the container's own name is the loopback
 * address, as podman has it: Java and sudo look that name up. `hostRoot` is where the host's own
 * `/etc` is, if it is not ours: what an engine writes into our `/etc/resolv.conf` answers in our
 * network only.
 */
export async function writeEtcFiles(
  folder: string,
  hostname: string,
  network: Network,
  hostRoot?: string,
): Promise<{ source: string; destination: string }[]> {
  const read = (path: string): Promise<string> | string =>
    hostRoot === undefined ? readOur(path) : readOf(hostRoot, path)
  const hosts = network === 'host' ? (await read('/etc/hosts')) || LOCAL : `${LOCAL}127.0.0.1\t${hostname}\n`
  const contents = { hosts, 'resolv.conf': await read('/etc/resolv.conf'), hostname: `${hostname}\n` }
  return await Promise.all(
    Object.entries(contents).map(async ([name, text]) => {
      const source = join(folder, name)
      // Whoever runs in the container reads them, so 0644; the folder above is closed to all
      // others.
      await writeFile(source, text, { mode: 0o644 })
      return { source, destination: `/etc/${name}` }
    }),
  )
}

async function readOur(path: string): Promise<string> {
  return await readFile(path, 'utf8').catch(() => '')
}

/** Links in it lead to places below that root: systemd's resolv.conf is an absolute one. */
function readOf(root: string, path: string): string {
  const paths = new RootPaths(root)
  try {
    return paths.readSmall(path)
  } catch {
    return ''
  } finally {
    paths.close()
  }
}
