import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'
import { readComposeFile } from './compose-file.js'

const { cap_add: capabilities = [], security_opt } = readComposeFile().services['runtime'] ?? {}

/** As an engine makes it for a container that is not privileged: without loop devices. */
const OWN_DEV = `
mount -t tmpfs tmpfs /dev
mknod -m 666 /dev/null c 1 3; mknod -m 666 /dev/zero c 1 5; mknod -m 666 /dev/urandom c 1 9
exec "$@"`

/** As built: a process of its own reads no TypeScript. */
const SCRIPT = `
import { mkdtempSync, rmSync } from 'node:fs'
const { World } = await import('@strata/containers/testing')
const { createSnapshotter } = await import('@strata/snapshots')
const world = await World.make({ warn: () => undefined })
const run = (script, request) => world.run(['sh', '-c', script], request).then(({ stdout }) => stdout)
const status = await run('grep -E "^(Cap|NoNewPrivs|Seccomp)" /proc/self/status')
const loopback = await run('ip -o link show lo', { network: 'none' })
const left = await world.end()

const folder = mkdtempSync('/var/tmp/strata-runtime-')
// It tries every driver before that one.
const { snapshotter, probes } = await createSnapshotter({ folder, driver: 'vfs' })
await snapshotter.close()
rmSync(folder, { recursive: true })
console.log(JSON.stringify({ status, loopback, left, probes }))
`

it('the runtime works with the rights that docker-compose.yml gives it, and launches with docker’s default set', async () => {
  // Containers would inherit them.
  expect(security_opt).toEqual(['seccomp=unconfined', 'apparmor=unconfined', 'label=disable'])
  const bounds = ['-all', ...capabilities.map((name) => `+${name.toLowerCase()}`)].join(',')
  const { stdout } = await promisify(execFile)(
    'unshare',
    [
      ...['--mount', 'sh', '-ec', OWN_DEV, 'sh', 'setpriv', `--bounding-set=${bounds}`, '--inh-caps=-all'],
      ...[process.execPath, '--input-type=module', '--eval', SCRIPT],
    ],
    { cwd: import.meta.dirname },
  )
  const { status, loopback, left, probes } = JSON.parse(stdout) as {
    status: string
    loopback: string
    left: string[]
    probes: { title: string; ok: boolean; reason: string }[]
  }
  expect(status.split('\n').map((line) => line.replace(/:\s+/, ' '))).toEqual([
    'CapInh 0000000000000000',
    'CapPrm 00000000a80425fb',
    'CapEff 00000000a80425fb',
    'CapBnd 00000000a80425fb',
    'CapAmb 0000000000000000',
    'NoNewPrivs 0',
    'Seccomp 2',
    'Seccomp_filters 1',
    '',
  ])
  expect(loopback).toContain('UP')
  expect(left).toEqual([])
  expect(probes.map(({ title }) => title)).toContain('erofs on loop devices')
  expect(probes.filter(({ reason }) => /EPERM|EACCES|ENOENT|permitted|denied/.test(reason))).toEqual([])
})
