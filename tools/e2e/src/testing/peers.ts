import { execFileSync, spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, openSync, readFileSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { ArchiveFormat } from '@strata/archive'
import { MNT_DETACH, mountTable, umount } from '@strata/linux'
import { until } from './strata.js'

/**
 * An engine or tool of the field, with a store of its own in a folder of its own. What it takes it
 * keeps; `save` writes it again under the same name.
 */
export interface Peer {
  load(file: string, format: ArchiveFormat): void
  save(file: string, format: ArchiveFormat, name: string): void
  stop(): Promise<void>
}

/** Those of Debian's packages. */
export const PEERS = {
  docker: {
    formats: ['docker'],
    programs: ['/usr/sbin/dockerd', '/usr/bin/docker'],
    start: (folder) => startDocker(folder, '/usr/sbin/dockerd', '/usr/bin/docker'),
  },
  podman: { formats: ['docker', 'oci'], programs: ['podman'], start: startPodman },
  skopeo: { formats: ['docker', 'oci'], programs: ['skopeo'], start: startSkopeo },
  ctr: { formats: ['docker', 'oci'], programs: ['containerd', 'ctr'], start: startContainerd },
} as const satisfies Record<string, PeerKind>

export interface PeerKind {
  /** What it reads and writes. */
  readonly formats: readonly ArchiveFormat[]
  readonly programs: readonly string[]
  readonly start: (folder: string) => Promise<Peer>
}

/** The docker of STRATA_TEST_DOCKER, a folder with `docker` and `dockerd`. */
export function newerDocker(): PeerKind | undefined {
  const folder = process.env['STRATA_TEST_DOCKER']
  if (folder === undefined) return undefined
  const [daemon, client] = [join(folder, 'dockerd'), join(folder, 'docker')]
  return { formats: ['docker', 'oci'], programs: [daemon, client], start: (own) => startDocker(own, daemon, client) }
}

export function absentOf(programs: readonly string[]): string[] {
  return programs.filter((program) =>
    program.startsWith('/') ? !existsSync(program) : spawnSync('sh', ['-c', `command -v ${program}`]).status !== 0,
  )
}

const run = (command: string, ...args: string[]): string =>
  execFileSync(command, args, { stdio: ['ignore', 'pipe', 'pipe'], encoding: 'utf8' })

/**
 * A peer's temporary files lie in its own folder, which the test removes. containerd writes its
 * stacks there on its own account when it is slow to stop.
 */
async function environmentIn(folder: string): Promise<NodeJS.ProcessEnv> {
  const temporary = join(folder, 'tmp')
  await mkdir(temporary)
  return { ...process.env, TMPDIR: temporary }
}

/** A docker engine with a store of its own, and its client. */
export interface DockerEngine {
  /** Runs a command of the client; gives what it writes to stdout. */
  readonly docker: (...args: string[]) => string
  /** The same for a command that goes on beside the test: program and arguments. */
  readonly command: (...args: string[]) => [program: string, args: string[]]
  /** What the daemon has written so far. */
  readonly log: () => string
  readonly stop: () => Promise<void>
}

export async function startDockerEngine(
  folder: string,
  [daemon, client]: readonly string[] = PEERS.docker.programs,
): Promise<DockerEngine> {
  if (daemon === undefined || client === undefined) throw new Error('an engine is a daemon and a client')
  const host = `unix://${join(folder, 'docker.sock')}`
  const options = {
    'data-root': join(folder, 'root'),
    'exec-root': join(folder, 'exec'),
    pidfile: join(folder, 'pid'),
    host,
    bridge: 'none',
    iptables: false,
    ip6tables: false,
    'ip-forward': false,
  }
  const stop = await serve(
    folder,
    daemon,
    Object.entries(options).map(([name, value]) => `--${name}=${value}`),
    () => spawnSync(client, ['-H', host, 'version']).status === 0,
  )
  // The credentials of a login lie in the folder, too.
  const own = ['-H', host, '--config', join(folder, 'config')]
  return {
    docker: (...args) => run(client, ...own, ...args),
    command: (...args) => [client, [...own, ...args]],
    log: () => readFileSync(join(folder, 'log'), 'utf8'),
    stop,
  }
}

async function startDocker(folder: string, daemon: string, client: string): Promise<Peer> {
  const { docker, stop } = await startDockerEngine(folder, [daemon, client])
  return {
    load: (file) => void docker('load', '-q', '-i', file),
    save(file, _format, name) {
      docker('save', '-o', file, name)
      docker('rmi', '-f', name)
    },
    stop,
  }
}

async function startPodman(folder: string): Promise<Peer> {
  const env = await environmentIn(folder)
  const podman = (...args: string[]): string =>
    execFileSync(
      'podman',
      [
        '--root',
        join(folder, 'root'),
        '--runroot',
        join(folder, 'run'),
        '--storage-driver',
        'vfs',
        '--cgroup-manager',
        'cgroupfs',
        '--events-backend',
        'none',
        ...args,
      ],
      { stdio: ['ignore', 'pipe', 'pipe'], encoding: 'utf8', env },
    )
  return {
    load: (file) => void podman('load', '-q', '-i', file),
    save(file, format, name) {
      podman('save', '-q', '--format', `${format}-archive`, '-o', file, name)
      podman('rmi', '-f', name)
    },
    stop: () => Promise.resolve(),
  }
}

function startSkopeo(folder: string): Promise<Peer> {
  const skopeo = (...args: string[]): string =>
    run('skopeo', '--insecure-policy', '--tmpdir', folder, 'copy', '-q', ...args)
  // Not an OCI layout: for that it would write a config of its own.
  const kept = `dir:${join(folder, 'kept')}`
  return Promise.resolve({
    load: (file, format) => void skopeo(`${format}-archive:${file}`, kept),
    save: (file, format, name) => void skopeo(kept, `${format}-archive:${file}:${name}`),
    stop: () => Promise.resolve(),
  })
}

async function startContainerd(folder: string): Promise<Peer> {
  const socket = join(folder, 'containerd.sock')
  const config = join(folder, 'config.toml')
  const lines = [
    'version = 2',
    `root = "${folder}/root"`,
    `state = "${folder}/state"`,
    'disabled_plugins = ["io.containerd.grpc.v1.cri"]',
    `[grpc]\n  address = "${socket}"`,
    `[plugins."io.containerd.internal.v1.opt"]\n  path = "${folder}/opt"`,
  ]
  await writeFile(config, lines.join('\n'))
  const ctr = (...args: string[]): string => run('ctr', '-a', socket, '-n', 'test', 'images', ...args)
  const stop = await serve(
    folder,
    'containerd',
    ['--config', config],
    () => spawnSync('ctr', ['-a', socket, 'version']).status === 0,
  )
  const full = (name: string): string => `docker.io/${name}`
  return {
    load: (file) => void ctr('import', '--snapshotter', 'native', file),
    save(file, _format, name) {
      ctr('export', file, full(name))
      ctr('remove', '--sync', full(name))
    },
    stop,
  }
}

/** A daemon until `stop`; its log lies in the folder. */
async function serve(
  folder: string,
  program: string,
  args: readonly string[],
  isReady: () => boolean,
): Promise<() => Promise<void>> {
  const log = openSync(join(folder, 'log'), 'w')
  const child: ChildProcess = spawn(program, args, {
    stdio: ['ignore', log, log],
    env: await environmentIn(folder),
  })
  const ended = once(child, 'exit')
  await until(() => isReady() || child.exitCode !== null, `${program} answers`, 60)
  return async () => {
    child.kill('SIGTERM')
    await ended
    // dockerd leaves a mount on its own folder.
    for (const { mountPoint } of mountTable().reverse())
      if (mountPoint.startsWith(`${folder}/`)) umount(mountPoint, MNT_DETACH)
  }
}
