import { existsSync, mkdtempSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { busyboxTree, makeArchive, makeLayer } from '@strata/archive/testing'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readComposeFile } from '../compose-file.js'
import { prepareHost } from './deployment.js'
import type { TestHost } from './host.js'

const IMAGE = 'compose/keeper:1'
const MINUTES = 60_000
/** Ended when its work is done; everything else has to be up. */
const ONE_SHOT = 'secrets'

/** A folder whose base images and layers of Dockerfiles are kept from one run to the next. */
const kept = process.env['STRATA_TEST_COMPOSE']
const folder = kept ?? mkdtempSync(join('/var/tmp', 'strata-compose-'))
const namespaces = new Set<string>()
let host: TestHost

/** A line of the operator's shell: what it printed, if it ended well. */
function compose(args: readonly string[], input?: Buffer): string {
  const { status, stdout, stderr } = host.dockerWith(input ? { input } : {}, 'compose', ...args)
  expect(status, `docker compose ${args.join(' ')}\n${stdout}${stderr}`).toBe(0)
  return stdout
}
const strata = (...args: string[]): string => compose(['exec', '-T', 'gateway', 'strata', ...args])
const containers = (): { Name: string; Service: string; ID: string; State: string; Health: string }[] =>
  compose(['ps', '--all', '--format', 'json'])
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as ReturnType<typeof containers>[number])
const services = (): ReturnType<typeof containers> => containers().filter(({ Service }) => Service !== ONE_SHOT)
const inspect = (id: string, format: string): string => host.docker('inspect', '--format', format, id).stdout.trim()

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
  const [pid, ...more] = host.exec('pgrep', '-f', '^/bin/sh -c echo started').stdout.split('\n').filter(Boolean)
  expect(more).toEqual([])
  return pid ?? ''
}
const isKept = async (pid: string): Promise<void> => {
  expect(keeperPid()).toBe(pid)
  await expect.poll(() => strata('images'), { timeout: MINUTES }).toContain('compose/keeper')
  await expect.poll(() => strata('ps'), { timeout: MINUTES }).toContain('keeper')
  expect(keeperPid()).toBe(pid)
}

describe('docker-compose.yml on an engine', () => {
  let pid = ''

  beforeAll(async () => {
    host = await prepareHost(folder, (line) => {
      process.stdout.write(`${line}\n`)
    })
    for (const kind of ['pid', 'net', 'mnt', 'cgroup'])
      namespaces.add(host.exec('readlink', `/proc/1/ns/${kind}`).stdout.trim())
  }, 30 * MINUTES)

  afterAll(async () => {
    await (kept === undefined ? host.remove() : host.stop())
    expect(leftBehind()).toEqual([])
  }, 5 * MINUTES)

  it(
    'comes up: every service is healthy',
    async () => {
      compose(['up', '--detach', '--quiet-pull'])
      await isUp()
      expect(new Set(containers().map(({ Service }) => Service))).toEqual(
        new Set(Object.keys(readComposeFile().services)),
      )
    },
    5 * MINUTES,
  )

  it(
    'loads an archive from a pipe, and runs its image',
    async () => {
      const archive = await makeArchive({ names: [IMAGE], layers: [await makeLayer(busyboxTree())], config: {} })
      expect(compose(['exec', '-T', 'gateway', 'strata', 'load'], archive)).toContain(IMAGE)
      strata('run', '--detach', '--name', 'keeper', IMAGE, '/bin/sh', '-c', 'echo started; while :; do sleep 1; done')
      await expect.poll(keeperPid, { timeout: MINUTES }).not.toBe('')
      pid = keeperPid()
      expect(strata('logs', 'keeper')).toContain('started')
    },
    3 * MINUTES,
  )

  it(
    'scales: two gateways and two ingests work, and images are those of before',
    async () => {
      compose(['up', '--detach', '--no-recreate', '--scale', 'gateway=2', '--scale', 'ingest=2'])
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
        expect(host.exec('kill', '-KILL', inspect(ID, '{{.State.Pid}}')).status, Name).toBe(0)
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
    'runs the launched container on while everything of Strata is down, and finds all again when it is up',
    async () => {
      compose(['down'])
      expect(containers()).toEqual([])
      expect(keeperPid()).toBe(pid)
      compose(['up', '--detach'])
      await isUp()
      await isKept(pid)
      expect(strata('logs', 'keeper')).toContain('started')
    },
    5 * MINUTES,
  )

  it(
    'removes the launched container',
    async () => {
      strata('rm', '--force', 'keeper')
      await expect.poll(keeperPid, { timeout: MINUTES }).toBe('')
      expect(strata('ps', '--all')).not.toContain('keeper')
    },
    2 * MINUTES,
  )
})

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
