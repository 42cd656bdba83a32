import { accessSync, readdirSync } from 'node:fs'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { hostname, release } from 'node:os'
import { join } from 'node:path'
import { StrataError } from '@strata/base'
import { argsOf, envOf, hostnameOf, workdirOf } from './command.js'
import type { ContainerRecord } from '../container.js'
import { writeEtcFiles } from '../root/etc-files.js'
import { KERNEL_FOLDERS, RootPaths } from '../root/root-paths.js'
import { defaultSeccomp, type SeccompArch } from '../seccomp/seccomp.js'
import { HOST_ROOT, hostNetwork } from './host-network.js'
import { buildSpec, DEFAULT_CAPABILITIES, type Spec } from './spec.js'
import { resolveUser } from '../root/users.js'

const ARCHITECTURES: Partial<Record<NodeJS.Architecture, SeccompArch>> = { x64: 'x86_64', arm64: 'aarch64' }

/**
 * The container's spec, with all that it needs made inside its mounted root. `folder` is the
 * container's own, on the host.
 */
export async function prepareRoot(
  record: ContainerRecord,
  root: string,
  folder: string,
  cgroupsPath: string,
): Promise<Spec> {
  const { request, image } = record
  const network = request.network ?? 'none'
  const namespace = network === 'host' ? hostNetwork() : undefined
  const name = hostnameOf(record.id, request, hostname())
  const files = await writeEtcFiles(folder, name, network, namespace === undefined ? undefined : HOST_ROOT)
  const paths = new RootPaths(root)
  try {
    paths.requireKernelFolders()
    const user = resolveUser(
      request.user ?? image.config?.User ?? '',
      paths.readSmall('/etc/passwd'),
      paths.readSmall('/etc/group'),
    )
    // Without links, so that the runtime has none to follow when the image's /proc is not what is
    // there any more.
    const mounted: { source: string; destination: string }[] = []
    for (const { source, destination } of files)
      mounted.push({ source, destination: outside(KERNEL_FOLDERS, await paths.makeFile(destination), destination) })
    // As docker and podman: `df` and `mount` of old user lands read it.
    await paths.makeLink('/etc/mtab', '/proc/mounts')
    for (const folder of KERNEL_FOLDERS) await paths.makeFolder(folder)
    for (const volume of image.config?.Volumes ?? []) await paths.makeFolder(`/${volume}`)
    const workdir = workdirOf(image.config, request)
    const cwd = outside(
      ['/proc'],
      await paths.makeFolder(workdir),
      `the working directory ${JSON.stringify(workdir.slice(0, 200))}`,
    )
    const arch = ARCHITECTURES[process.arch]
    if (!arch) throw new StrataError('unsupported', `there is no seccomp policy for ${process.arch} processors`)
    return buildSpec({
      args: argsOf(image, request),
      env: envOf(image.config, request, { hostname: name, home: user.home }),
      cwd,
      user,
      hostname: name,
      network,
      hostNetwork: namespace,
      readOnly: request.readOnly ?? false,
      root,
      cgroupsPath,
      files: mounted,
      thermal: thermalPaths(),
      seccomp: defaultSeccomp(arch, DEFAULT_CAPABILITIES, release()),
    })
  } finally {
    paths.close()
  }
}

/**
 * `path` has no links, so this is where it would be.
 *
 * - In /proc a name may stand for a file that the *runtime* holds open (CVE-2024-21626). Neither a
 *   mount nor the working directory may be there.
 * - In /dev and /sys the runtime mounts its own. A file of ours over /dev/null takes the device's
 *   place: the runtime then gives that file to the process as its output.
 */
function outside(folders: readonly string[], path: string, what: string): string {
  const folder = folders.find((each) => path === each || path.startsWith(`${each}/`))
  if (folder !== undefined) throw new StrataError('launch_failed', `${what} lies in ${folder}`)
  return path
}

/**
 * Writes an OCI bundle anew (runtime-spec, bundle.md). Whatever an earlier try left in it goes. It
 * holds the environment, so nobody else may read it.
 */
export async function writeBundle(bundle: string, spec: Spec): Promise<void> {
  await rm(bundle, { recursive: true, force: true })
  await mkdir(bundle, { recursive: true, mode: 0o700 })
  await writeFile(join(bundle, 'config.json'), JSON.stringify(spec), { mode: 0o600 })
}

let thermal: string[] | undefined
/** Once: processors do not come and go under us. */
function thermalPaths(): string[] {
  thermal ??= readdirSync('/sys/devices/system/cpu')
    .filter((name) => /^cpu\d+$/.test(name))
    .map((name) => `/sys/devices/system/cpu/${name}/thermal_throttle`)
    .filter((path) => {
      try {
        accessSync(path)
        return true
      } catch {
        return false
      }
    })
  return thermal
}
