import type { MountEntry } from '@strata/linux'
import { afterEach, expect, it, vi } from 'vitest'
import { Cgroups } from './cgroups.js'

/** The groups of the process that is asked for, the mounts, files, and which were written. */
interface World {
  groups: string
  mounts: readonly Partial<MountEntry>[]
  files: Record<string, string>
  written: string[]
}
const world = vi.hoisted((): World => ({ groups: '', mounts: [], files: {}, written: [] }))
vi.mock('node:fs/promises', () => ({
  mkdir: () => Promise.resolve(),
  readFile: (path: string) => {
    const text = path === '/proc/7/cgroup' ? world.groups : world.files[path]
    return text === undefined ? Promise.reject(new Error(path)) : Promise.resolve(text)
  },
  writeFile: (path: string) => Promise.resolve(void world.written.push(path)),
}))
vi.mock('@strata/linux', () => ({ mountTable: () => world.mounts }))
afterEach(() => {
  world.written = []
  world.files = {}
})
const v1 = (root: string, mountPoint: string): Partial<MountEntry> => ({
  root,
  mountPoint,
  fsType: 'cgroup',
  superOptions: ['rw', 'freezer'],
})

// A service in a container of docker's, on a machine with version 1, sees the hierarchy from its
// own group on, and paths of processes from the machine's root on.
it.each([
  ['the whole hierarchy', [v1('/', '/cg')], '', '/cg'],
  ['a hierarchy from below its root', [v1('/docker/abc', '/cg')], '/docker/abc', '/cg'],
  ['both', [v1('/', '/all'), v1('/docker/abc', '/cg')], '/docker/abc', '/cg'],
])('a monitor is moved once where one sees %s', async (_what, mounts, root, place) => {
  world.mounts = mounts
  world.groups = '3:freezer:/docker/abc/strata-other/monitors\n'
  await new Cgroups('strata-n').adoptMonitor(7)
  expect(world.written).toContain(`${place}/strata-n/monitors/cgroup.procs`)
  world.written = []
  world.groups = `3:freezer:${root}/strata-n/monitors\n`
  await new Cgroups('strata-n').adoptMonitor(7)
  expect(world.written).toEqual([])
})

// runc hands every controller down to a container's group. In version 2 an empty cpuset is no
// obstacle, and the root group has no such file to copy from.
it('a monitor is moved where only cgroups of version 2 are, with the cpuset controller', async () => {
  world.mounts = [{ root: '/', mountPoint: '/cg', fsType: 'cgroup2', superOptions: ['rw'] }]
  world.files = { '/cg/strata-n/cpuset.cpus': '\n', '/cg/strata-n/cpuset.mems': '\n' }
  world.groups = '0::/docker/abc\n'
  await new Cgroups('strata-n').adoptMonitor(7)
  expect(world.written).toEqual(['/cg/strata-n/monitors/cgroup.procs'])
})
