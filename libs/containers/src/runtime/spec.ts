import type { Network } from '../container.js'
import type { LinuxSeccomp } from '../seccomp/seccomp.js'
import type { User } from '../root/users.js'

/** moby's default 14 (daemon/pkg/oci/caps/defaults.go). */
export const DEFAULT_CAPABILITIES = [
  'CAP_CHOWN',
  'CAP_DAC_OVERRIDE',
  'CAP_FSETID',
  'CAP_FOWNER',
  'CAP_MKNOD',
  'CAP_NET_RAW',
  'CAP_SETGID',
  'CAP_SETUID',
  'CAP_SETFCAP',
  'CAP_SETPCAP',
  'CAP_NET_BIND_SERVICE',
  'CAP_SYS_CHROOT',
  'CAP_KILL',
  'CAP_AUDIT_WRITE',
] as const

/**
 * moby's (daemon/pkg/oci/defaults.go). GHSA-6fw5-f8r9-fgfm adds the interrupts and each cpu's
 * thermal throttle, GHSA-jq35-85cj-fj4p the power caps.
 */
const MASKED_PATHS = [
  '/proc/acpi',
  '/proc/asound',
  '/proc/interrupts',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/sched_debug',
  '/proc/scsi',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/sys/devices/virtual/powercap',
  '/sys/firmware',
]
const READONLY_PATHS = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger']

/** runtime-spec, config.md, "Mounts". */
interface SpecMount {
  readonly destination: string
  readonly type: string
  readonly source: string
  readonly options: readonly string[]
}

/** In this order, parents before children. */
const MOUNTS: readonly SpecMount[] = [
  { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
  {
    destination: '/dev',
    type: 'tmpfs',
    source: 'tmpfs',
    options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'],
  },
  {
    destination: '/dev/pts',
    type: 'devpts',
    source: 'devpts',
    options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'],
  },
  { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['nosuid', 'noexec', 'nodev', 'ro'] },
  { destination: '/sys/fs/cgroup', type: 'cgroup', source: 'cgroup', options: ['ro', 'nosuid', 'noexec', 'nodev'] },
  { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: ['nosuid', 'noexec', 'nodev'] },
  {
    destination: '/dev/shm',
    type: 'tmpfs',
    source: 'shm',
    options: ['nosuid', 'noexec', 'nodev', 'mode=1777', 'size=67108864'],
  },
]

/**
 * In a network namespace of the container's own, as docker: a user who is not root may listen on
 * every port, and open ICMP sockets (ping).
 */
const NETWORK_SYSCTLS = {
  'net.ipv4.ip_unprivileged_port_start': '0',
  'net.ipv4.ping_group_range': '0 2147483647',
}

/** New ones, for each container. */
const NAMESPACES = ['mount', 'uts', 'pid', 'ipc', 'cgroup'] as const

/** All that a spec depends on, resolved. */
export interface SpecFacts {
  readonly args: readonly string[]
  readonly env: readonly string[]
  /** Absolute, links in the root resolved. */
  readonly cwd: string
  readonly user: User
  readonly hostname: string
  readonly network: Network
  /** The namespace to enter with `network: host`. Left out: this service is in it already. */
  readonly hostNetwork?: string | undefined
  readonly readOnly: boolean
  /** The root's absolute path on the host. */
  readonly root: string
  /** Below each controller's root. */
  readonly cgroupsPath: string
  readonly seccomp: LinuxSeccomp
  /** Files of ours over `/etc/hosts` and so on. */
  readonly files: readonly { readonly source: string; readonly destination: string }[]
  /** `/sys/devices/system/cpu/cpu<N>/thermal_throttle`, where the machine has them. */
  readonly thermal: readonly string[]
}

/**
 * config.json of runtime-spec 1.2: the members that are set. Everything docker's default container
 * has; no terminal, no rlimits, noNewPrivileges false as there.
 */
export function buildSpec(facts: SpecFacts) {
  const capabilities = [...DEFAULT_CAPABILITIES]
  const { uid, gid, additionalGids } = facts.user
  return {
    ociVersion: '1.2.0',
    process: {
      terminal: false,
      user: { uid, gid, additionalGids },
      args: facts.args,
      env: facts.env,
      cwd: facts.cwd,
      // Who is not root gets only the bound, as execve(2) would leave it.
      capabilities:
        uid === 0
          ? { bounding: capabilities, effective: capabilities, permitted: capabilities }
          : { bounding: capabilities },
      noNewPrivileges: false,
    },
    root: { path: facts.root, readonly: facts.readOnly },
    hostname: facts.hostname,
    mounts: [
      ...MOUNTS,
      ...facts.files.map(({ source, destination }) => ({
        destination,
        type: 'bind',
        source,
        options: ['rbind', 'rprivate'],
      })),
    ],
    linux: {
      cgroupsPath: facts.cgroupsPath,
      namespaces: [...NAMESPACES.map((type) => ({ type })), ...networkNamespace(facts)],
      ...(facts.network === 'host' ? {} : { sysctl: NETWORK_SYSCTLS }),
      // The runtime itself adds the default devices (null, zero, full, random, urandom, tty,
      // console, ptmx).
      resources: { devices: [{ allow: false, access: 'rwm' }] },
      maskedPaths: [...MASKED_PATHS, ...facts.thermal],
      readonlyPaths: READONLY_PATHS,
      seccomp: facts.seccomp,
    },
  }
}

function networkNamespace({ network, hostNetwork }: SpecFacts): { type: 'network'; path?: string }[] {
  if (network !== 'host') return [{ type: 'network' }]
  return hostNetwork === undefined ? [] : [{ type: 'network', path: hostNetwork }]
}
export type Spec = ReturnType<typeof buildSpec>
