import { existsSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { busyboxTree, makeArchive, makeLayer } from '@strata/archive/testing'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readComposeFile } from '../compose-file.js'
import { commandsOf } from './deploy-page.js'
import { prepareHost } from './deployment.js'
import type { TestHost } from './host.js'
import type { Releases } from './releases.js'

const IMAGE = 'compose/keeper:1'
const MINUTES = 60_000
const KEEPER = 'echo started; echo by the container > /tmp/written; while :; do sleep 1; done'
/** Ended when its work is done; everything else has to be up. */
const ONE_SHOT = 'secrets'

/** A folder whose images and layers of Dockerfiles are kept from one run to the next. */
const kept = process.env['STRATA_TEST_COMPOSE']
const folder = kept ?? mkdtempSync(join('/var/tmp', 'strata-compose-'))
const namespaces = new Set<string>()
let host: TestHost
let releases: Releases

/** Lines of the operator's shell, in the checkout: what they printed, if each ended well. */
function shell(lines: string): string {
  const { status, stdout, stderr } = host.exec(['bash', '-euxo', 'pipefail', '-c', lines], {
    folder: releases.checkout,
  })
  expect(status, `${stdout}${stderr}`).toBe(0)
  return stdout
}
/** The commands of a block of docs/deploy.md. The page's /backup is this machine's folder, too. */
function page(heading: string, block: number, words: Readonly<Record<string, string>> = {}): string {
  const commands = commandsOf(heading, words)[block]
  return (commands ?? expect.fail(`"${heading}" has no block ${String(block)}`)).replaceAll(
    '/backup/',
    `${folder}/backup-`,
  )
}
const strata = (...args: string[]): string => {
  const command = ['docker', 'compose', 'exec', '-T', 'gateway', 'strata', ...args]
  const { status, stdout, stderr } = host.exec(command, { folder: releases.checkout })
  expect(status, `strata ${args.join(' ')}\n${stdout}${stderr}`).toBe(0)
  return stdout
}
const containers = (): { Name: string; Service: string; ID: string; State: string; Health: string }[] =>
  shell('docker compose ps --all --format json')
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as ReturnType<typeof containers>[number])
const services = (): ReturnType<typeof containers> => containers().filter(({ Service }) => Service !== ONE_SHOT)
const inspect = (id: string, format: string): string => host.docker('inspect', '--format', format, id).stdout.trim()
const status = (token: string, url = 'http://127.0.0.1:4700'): string =>
  host.exec([
    ...['curl', '-s', '-o', '/dev/null', '-w', '%{http_code}', '-H', `Authorization: Bearer ${token}`],
    `${url}/v1/images`,
  ]).stdout
const token = (): string => shell('docker compose exec -T gateway cat /secrets/token/value').trim()
/** Names, ids and what the images are made of. */
const content = (): string =>
  [
    ...strata('images', '--format', '{{.Repository}}:{{.Tag}} {{.ID}}').trim().split('\n').sort(),
    shell(`docker compose exec -T gateway strata save ${IMAGE} | sha256sum`),
  ].join('\n')

const isUp = async (): Promise<void> => {
  await expect
    .poll(() => services().map(({ Name, State, Health }) => `${Name}: ${State} ${Health}`), {
      timeout: 3 * MINUTES,
      interval: 1000,
    })
    .toSatisfy((lines: string[]) => lines.length > 0 && lines.every((line) => line.endsWith(': running healthy')))
}
/** The process of the launched container, as the host numbers it. */
const keeperPid = (): string => {
  const [pid, ...more] = host.exec(['pgrep', '-f', '^/bin/sh -c echo started']).stdout.split('\n').filter(Boolean)
  expect(more).toEqual([])
  return pid ?? ''
}
const isKept = async (pid: string): Promise<void> => {
  expect(keeperPid()).toBe(pid)
  await expect.poll(() => strata('images'), { timeout: MINUTES }).toContain('compose/keeper')
  await expect.poll(() => strata('ps', '--format', '{{.Names}}'), { timeout: MINUTES }).toContain('keeper')
  expect(keeperPid()).toBe(pid)
}
const launchKeeper = async (): Promise<string> => {
  strata('run', '--detach', '--name', 'keeper', IMAGE, '/bin/sh', '-c', KEEPER)
  await expect.poll(keeperPid, { timeout: MINUTES }).not.toBe('')
  return keeperPid()
}
/** All that an earlier run or an earlier test has left on the host, as if it were a new machine. */
function clean(): void {
  shell('docker compose down --volumes --remove-orphans && rm -rf /var/lib/strata .env')
}

describe('docker-compose.yml on an engine', () => {
  let pid = ''

  beforeAll(async () => {
    ;({ host, releases } = await prepareHost(folder, (line) => {
      process.stdout.write(`${line}\n`)
    }))
    for (const kind of ['pid', 'net', 'mnt', 'cgroup'])
      namespaces.add(host.exec(['readlink', `/proc/1/ns/${kind}`]).stdout.trim())
    clean()
    const config = { Cmd: ['/bin/echo', 'it runs'] }
    const archive = await makeArchive({ names: [IMAGE], layers: [await makeLayer(busyboxTree())], config })
    writeFileSync(join(releases.checkout, 'image.tar'), archive)
  }, 30 * MINUTES)

  afterAll(async () => {
    try {
      clean()
    } finally {
      await (kept === undefined ? host.remove() : host.stop())
    }
    expect(leftBehind()).toEqual([])
  }, 5 * MINUTES)

  it(
    'starts, loads, runs, and answers from outside, by the commands of docs/deploy.md',
    async () => {
      const printed = shell(page('Start', 0, { IMAGE }))
      expect(printed).toContain(IMAGE)
      expect(printed).toContain('it runs')
      expect(shell(page('Start', 1, { VERSION: releases.current.slice(1) }))).toContain('compose/keeper')
      await isUp()
      expect(new Set(containers().map(({ Service }) => Service))).toEqual(
        new Set(Object.keys(readComposeFile().services)),
      )
      expect(status('x')).toBe('401')
      pid = await launchKeeper()
      expect(strata('logs', 'keeper')).toContain('started')
    },
    5 * MINUTES,
  )

  it(
    'launches with what docker gives a container, from a runtime that is not privileged',
    () => {
      const runtime = services().find(({ Service }) => Service === 'runtime')!.ID
      expect(inspect(runtime, '{{.HostConfig.Privileged}}')).toBe('false')
      const look = 'grep -E "^(Cap|NoNewPrivs|Seccomp)" /proc/self/status; cat /sys/fs/cgroup/devices/devices.list || :'
      const { image } = readComposeFile().services['redis']!
      const docker = host.docker('run', '--rm', '--entrypoint', 'sh', image, '-c', `${look}; ls /dev`)
      expect(docker.stdout).toContain('CapBnd')
      const has = new Set(docker.stdout.split('\n'))
      const given = strata('run', '--rm', IMAGE, '/bin/sh', '-c', `${look}; ls /dev`).split('\n')
      expect(given).toContainEqual(expect.stringContaining('CapBnd'))
      expect(given.filter((line) => !has.has(line))).toEqual([])
    },
    2 * MINUTES,
  )

  it(
    'gives a container the network of the host with --network host, where MinIO has no name',
    () => {
      const interfaces = host.exec(['ls', '/sys/class/net']).stdout
      const namespace = host.exec(['readlink', '/proc/1/ns/net']).stdout
      const seen = strata('run', '--rm', '--network', 'host', IMAGE, '/bin/readlink', '/proc/self/ns/net')
      expect(seen).toBe(namespace)
      expect(interfaces).toContain('host0')
      const ask = 'wget -q -T 5 -O - http://minio:9000/minio/health/ready || echo no MinIO'
      expect(strata('run', '--rm', '--network', 'host', IMAGE, '/bin/sh', '-c', ask)).toContain('no MinIO')
    },
    2 * MINUTES,
  )

  it('refuses to mount an image, and says why', () => {
    const mount = ['docker', 'compose', 'exec', '-T', 'gateway', 'strata', 'mount', IMAGE]
    const { status, stderr } = host.exec(mount, { folder: releases.checkout })
    expect(status).not.toBe(0)
    expect(stderr).toMatch(/nobody would see a mount: .*runs in a container\. Read the image with strata ls/)
  })

  it(
    'scales: two gateways and two ingests work, and images are those of before',
    async () => {
      shell('docker compose up -d --wait --no-recreate --scale gateway=2 --scale ingest=2')
      await isUp()
      expect(services().filter(({ Service }) => ['gateway', 'ingest'].includes(Service))).toHaveLength(4)
      await isKept(pid)
    },
    5 * MINUTES,
  )

  it(
    'comes back from the kill of each container, and the launched one runs on',
    async () => {
      for (const { ID, Name } of services()) {
        const before = inspect(ID, '{{.RestartCount}}')
        // As the kernel does it when memory is short: `docker kill` would count as a stop.
        expect(host.exec(['kill', '-KILL', inspect(ID, '{{.State.Pid}}')]).status, Name).toBe(0)
        await expect
          .poll(() => inspect(ID, '{{.RestartCount}} {{.State.Running}}'), { timeout: MINUTES })
          .toBe(`${String(Number(before) + 1)} true`)
        await isUp()
        await isKept(pid)
      }
    },
    15 * MINUTES,
  )

  it(
    'runs the launched container on while the container of the runtime is made anew: none of its cgroups is docker’s',
    async () => {
      const conmon = host.exec(['pgrep', 'conmon']).stdout.trim()
      expect(conmon).toMatch(/^\d+$/)
      for (const process of [conmon, pid])
        expect(host.exec(['cat', `/proc/${process}/cgroup`]).stdout).not.toContain('docker')
      strata('run', '--detach', '--name', 'in-host', '--network', 'host', IMAGE, '/bin/sleep', '1000')
      const network = (): string => shell('readlink /proc/$(pgrep -f "^/bin/sleep 1000")/ns/net')
      const old = services().find(({ Service }) => Service === 'runtime')?.ID
      shell('docker compose up -d --force-recreate --no-deps runtime')
      await isUp()
      expect(services().find(({ Service }) => Service === 'runtime')?.ID).not.toBe(old)
      await isKept(pid)
      expect(host.exec(['pgrep', '--oldest', 'conmon']).stdout.trim()).toBe(conmon)
      expect(network()).toBe(shell('readlink /proc/1/ns/net'))
      strata('rm', '--force', 'in-host')
    },
    5 * MINUTES,
  )

  it(
    'rotates each secret while the launched container runs on',
    async () => {
      const old = token()
      expect(status(old)).toBe('200')
      expect(shell(page('Rotation of secrets', 0))).toContain('token: made')
      await expect.poll(() => status(token()), { timeout: MINUTES }).toBe('200')
      expect(token()).not.toBe(old)
      expect(status(old)).toBe('401')
      await isUp()
      shell(page('Rotation of secrets', 1))
      await isUp()
      await isKept(pid)
      expect(strata('run', '--rm', IMAGE)).toContain('it runs')
    },
    5 * MINUTES,
  )

  it(
    'speaks TLS with a certificate, and nothing else on that port',
    async () => {
      shell(
        'openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=strata' +
          ' -addext subjectAltName=DNS:localhost -keyout privkey.pem -out fullchain.pem && cp fullchain.pem ca.pem',
      )
      shell(`token=${token()}\n${page('TLS', 0, { HOST: 'localhost' })}`)
      expect(status(token(), 'http://localhost:443')).not.toBe('200')
      shell(commandLine('docker compose kill -s USR2 proxy'))
      await isUp()
      rmSync(join(releases.checkout, '.env'))
      shell('rm /var/lib/strata/tls/server.pem && docker compose up -d && docker compose restart proxy')
      await isUp()
      expect(status(token())).toBe('200')
    },
    5 * MINUTES,
  )

  it(
    'runs the launched container on while everything of Strata is down, and finds all again when it is up',
    async () => {
      shell('docker compose down')
      expect(containers()).toEqual([])
      expect(keeperPid()).toBe(pid)
      shell('docker compose up -d')
      await isUp()
      await isKept(pid)
      expect(strata('logs', 'keeper')).toContain('started')
    },
    5 * MINUTES,
  )

  it('writes out the files of the launched container', () => {
    shell(page('Backup and restore', 2, { CONTAINER: 'keeper' }))
    expect(shell(`tar -xOf ${folder}/backup-container.tar ./tmp/written`)).toBe('by the container\n')
  })

  it(
    'goes to another release and back, with and without the backup, and the launched container runs on',
    async () => {
      const before = content()
      const old = releases.current
      shell(page('Upgrade and rollback', 0, { VERSION: releases.next }))
      await isUp()
      expect(strata('version')).toContain(releases.next.slice(1))
      expect(content()).toBe(before)
      await isKept(pid)

      shell(
        commandLine('docker compose stop && git checkout OLD && docker compose up -d --build --wait').replace(
          'OLD',
          old,
        ),
      )
      await isUp()
      expect(strata('version')).not.toContain(releases.next.slice(1))
      expect(content()).toBe(before)
      await isKept(pid)

      shell(`git checkout ${releases.next} && docker compose up -d --build --wait`)
      await isUp()
      strata('tag', IMAGE, 'compose/late:1')
      shell(page('Upgrade and rollback', 1, { OLD: old }))
      await isUp()
      expect(strata('version')).not.toContain(releases.next.slice(1))
      expect(content()).toBe(before)
      await isKept(pid)
    },
    20 * MINUTES,
  )

  it(
    'removes the launched container',
    async () => {
      strata('rm', '--force', 'keeper')
      await expect.poll(keeperPid, { timeout: MINUTES }).toBe('')
      expect(strata('ps', '--all', '--format', '{{.Names}}')).not.toContain('keeper')
    },
    2 * MINUTES,
  )

  it(
    'is restored from a backup after everything was deleted: images, tags and token are what they were',
    async () => {
      strata('tag', IMAGE, 'compose/second:2')
      const [before, secret] = [content(), token()]
      shell(page('Backup and restore', 0))
      await isUp()
      strata('tag', IMAGE, 'compose/late:1')
      shell('docker compose down --volumes && rm -rf /var/lib/strata')
      shell(page('Backup and restore', 1))
      await isUp()
      expect(content()).toBe(before)
      expect(token()).toBe(secret)
      expect(strata('run', '--rm', IMAGE)).toContain('it runs')
    },
    10 * MINUTES,
  )

  it(
    'takes over what the first compose files kept in volumes, and does not start without it',
    async () => {
      const [before, secret] = [content(), token()]
      shell('docker compose down --volumes')
      shell(intoVolumes())
      const refused = host.exec(['docker', 'compose', 'up', '-d', '--wait'], { folder: releases.checkout })
      expect(refused.status).not.toBe(0)
      expect(shell('docker compose logs secrets')).toContain('bring them here first (docs/deploy.md, From volumes)')
      shell(page('From volumes', 0))
      shell(commandLine('docker compose up -d --build --wait'))
      await isUp()
      expect(content()).toBe(before)
      expect(token()).toBe(secret)
      expect(strata('run', '--rm', IMAGE)).toContain('it runs')
      shell(page('From volumes', 1))
    },
    10 * MINUTES,
  )
})

/**
 * Moves the data to where the first compose files had them: in volumes that are named after the
 * folder of the checkout, with the users of the images and a file for each secret.
 */
function intoVolumes(): string {
  const volume = (name: string): string =>
    `docker volume create strata_${name}; ${name}=$(docker volume inspect --format '{{.Mountpoint}}' strata_${name})`
  return `
    ${['redis', 'minio', 'secrets'].map(volume).join('\n')}
    cd /var/lib/strata
    mv redis-data/* "$redis/"; chown -R 999:999 "$redis"
    mv minio/* minio/.minio.sys "$minio/"; chown 7121:7120 "$minio"
    for each in token node-secret s3-secret-key; do
      mv secrets/$each/value "$secrets/$each"
    done
    rm -r redis-data minio secrets`
}

/** A command within a sentence of docs/deploy.md: it has to be there. */
function commandLine(command: string): string {
  expect(readFileSync(join(releases.checkout, 'docs/deploy.md'), 'utf8')).toContain(`\`${command}\``)
  return command
}

/** Processes in the host's namespaces, its cgroups, mounts, and its folder unless that is kept. */
function leftBehind(): string[] {
  const processes = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((id) =>
      ['pid', 'net', 'mnt', 'cgroup'].some((kind) => {
        try {
          // A host in namespaces of the machine's is none of ours.
          const link = readlinkSync(`/proc/${id}/ns/${kind}`)
          return namespaces.has(link) && link !== readlinkSync(`/proc/self/ns/${kind}`)
        } catch {
          return false
        }
      }),
    )
    .map((id) => `process ${id}`)
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((line) => line.includes(folder))
  const cgroups = readdirSync('/sys/fs/cgroup', { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isDirectory() && entry.name === `strata-host${folder.replaceAll('/', '-')}`)
    .map((entry) => join(entry.parentPath, entry.name))
  return [...processes, ...mounts, ...cgroups, ...(kept === undefined && existsSync(folder) ? [folder] : [])]
}
