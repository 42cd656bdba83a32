import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Network } from '../container.js'

const LOCAL =
  '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n'

/**
 * Writes `/etc/hosts`, `/etc/resolv.conf` and `/etc/hostname` of a container into a folder of ours;
 * answers what is to be mounted where. Without a network the container's own name is the loopback
 * address, as podman has it: Java and sudo look that name up.
 */
export async function writeEtcFiles(
  folder: string,
  hostname: string,
  network: Network,
): Promise<{ source: string; destination: string }[]> {
  const hosts = network === 'host' ? await readOr('/etc/hosts', LOCAL) : `${LOCAL}127.0.0.1\t${hostname}\n`
  const contents = { hosts, 'resolv.conf': await readOr('/etc/resolv.conf', ''), hostname: `${hostname}\n` }
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

async function readOr(path: string, otherwise: string): Promise<string> {
  return await readFile(path, 'utf8').catch(() => otherwise)
}
