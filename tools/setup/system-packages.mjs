import { spawnSync } from 'node:child_process'
import { accessSync, constants, existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fail, run, say } from './steps.mjs'

/** What the machine itself has to have: Debian's and Ubuntu's names. */
const PACKAGES = [
  { name: 'redis-server', command: 'redis-server', why: 'the queues; Strata starts a private one on a socket' },
  { name: 'runc', command: 'runc', why: 'starts containers' },
  { name: 'conmon', command: 'conmon', why: 'watches over each container, keeps its output and its exit code' },
  { name: 'mount', command: 'umount', why: 'ends the mounts of containers that stay' },
  { name: 'xz-utils', command: 'xz', why: 'unpacks archives packed by xz' },
  { name: 'bzip2', command: 'bzip2', why: 'unpacks archives packed by bzip2' },
  { name: 'busybox-static', command: 'busybox', why: 'the programs in the demo’s and the tests’ images' },
]
/**
 * What only tests use: without root, or without apt-get, those tests are skipped, with a reason.
 */
const FOR_TESTS = [
  { name: 'curl', command: 'curl', why: 'loads an archive from a pipe as the manual says, in a test' },
  { name: 'haproxy', command: 'haproxy', why: 'runs with the configuration of the compose file, in a test' },
  { name: 'docker-registry', command: 'docker-registry', why: 'a registry that images are pulled from, in tests' },
  { name: 'skopeo', command: 'skopeo', why: 'writes archives and reads ours, in tests' },
  { name: 'libarchive-tools', command: 'bsdtar', why: 'a reader of tars that ours is compared with, in a test' },
  { name: 'python3', command: 'python3', why: 'another one' },
  { name: 'umoci', command: 'umoci', why: 'writes image layouts and reads ours, in tests' },
  { name: 'docker.io', command: 'dockerd', why: 'reads archives that Strata writes, in tests, as the next two' },
  { name: 'podman', command: 'podman', why: 'reads them too' },
  { name: 'containerd', command: 'ctr', why: 'reads them too' },
]

/** What `npm run test:compose` uses. */
const FOR_COMPOSE = [
  { name: 'mmdebstrap', command: 'mmdebstrap', why: 'makes the base images of Strata’s, in a test' },
  { name: 'docker.io', command: 'dockerd', why: 'runs docker-compose.yml' },
  { name: 'iptables', command: 'iptables', why: 'the engine’s networks' },
  { name: 'iproute2', command: 'ip', why: 'the network that the engine is in' },
  { name: 'slirp4netns', command: 'slirp4netns', why: 'lets builds in that network reach package registries' },
]

const FOLDERS = [
  ...new Set([
    ...(process.env.PATH ?? '').split(':'),
    '/usr/local/sbin',
    '/usr/local/bin',
    '/usr/sbin',
    '/usr/bin',
    '/sbin',
    '/bin',
  ]),
]

export function isCommand(name) {
  return FOLDERS.some((folder) => {
    try {
      accessSync(join(folder || '.', name), constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}

export function missingPackages() {
  return PACKAGES.filter(({ command }) => !isCommand(command))
}

export function missingForTests() {
  return FOR_TESTS.filter(({ command }) => !isCommand(command))
}

export function missingForCompose() {
  return FOR_COMPOSE.filter(({ command }) => !isCommand(command))
}

export function installHint(packages) {
  return `apt-get install --no-install-recommends ${packages.map(({ name }) => name).join(' ')}`
}

/** Installs with apt-get, as root; no package's daemon is started, now or at the next boot. */
export function installSystemPackages(packages) {
  if (!isCommand('apt-get'))
    fail(
      `Not installed: ${packages.map(({ command }) => command).join(', ')}. This machine has no apt-get: install them with its own package manager.`,
    )
  say('installing from the system’s packages:')
  for (const { name, why } of packages) say(`  ${name.padEnd(18)}${why}`)
  withoutDaemons(() => {
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
    // An old list is no failure: what is to be installed may be in it.
    spawnSync('apt-get', ['-qq', 'update'], { stdio: 'ignore', env })
    // --no-remove: the reader's own packages stay, whatever conflicts with ours.
    run(
      'apt-get install',
      'apt-get',
      ['-qq', '-y', 'install', '--no-install-recommends', '--no-remove', ...packages.map(({ name }) => name)],
      { env },
    )
  })
  if (packages.some(({ name }) => name === 'redis-server') && isCommand('systemctl')) {
    spawnSync('systemctl', ['--quiet', 'disable', 'redis-server.service'], { stdio: 'ignore' })
  }
}

const POLICY = '/usr/sbin/policy-rc.d'
const KEPT = `${POLICY}.kept-by-strata`
const OURS = '#!/bin/sh\n# Written by Strata while it installs packages.\nexit 101\n'

/**
 * 101 is "not allowed by policy" to invoke-rc.d: a package's scripts start nothing (Debian's
 * /usr/share/doc/init-system-helpers/README.policy-rc.d.gz).
 */
function withoutDaemons(work) {
  // A policy of ours was left by a run that was killed in between; the machine's own, if it has
  // one, is then kept already.
  if (existsSync(POLICY) && readFileSync(POLICY, 'utf8') !== OURS) renameSync(POLICY, KEPT)
  const restore = () => {
    rmSync(POLICY, { force: true })
    if (existsSync(KEPT)) renameSync(KEPT, POLICY)
  }
  // Ctrl-C ends apt-get, by which this process ends in turn, after putting the policy back.
  const later = () => undefined
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, later)
  process.once('exit', restore)
  writeFileSync(POLICY, OURS, { mode: 0o755 })
  try {
    work()
  } finally {
    restore()
    process.off('exit', restore)
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.off(signal, later)
  }
}
