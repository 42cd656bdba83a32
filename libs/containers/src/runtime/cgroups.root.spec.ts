import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { mountTable } from '@strata/linux'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { World } from '../testing/world.js'

/** Each hierarchy on this machine, of either version, and our own group in it. */
const HIERARCHIES = mountTable()
  .filter(({ fsType }) => fsType === 'cgroup' || fsType === 'cgroup2')
  .map(({ fsType, mountPoint, superOptions }) => {
    const [, , path = '/'] =
      readFileSync('/proc/self/cgroup', 'latin1')
        .split('\n')
        .map((line) => line.split(':'))
        .find(([, controllers = '']) =>
          fsType === 'cgroup2' ? controllers === '' : superOptions.includes(controllers.split(',')[0]!),
        ) ?? []
    return { mountPoint, before: join(mountPoint, path) }
  })
const GROUP = `strata-engine-${process.pid}`
const pidsIn = (folder: string): number[] =>
  readFileSync(join(folder, 'cgroup.procs'), 'latin1').split('\n').filter(Boolean).map(Number)
const moveTo = (folder: string): void => writeFileSync(join(folder, 'cgroup.procs'), String(process.pid))

let world: World
beforeEach(async () => {
  for (const { mountPoint } of HIERARCHIES) {
    const folder = join(mountPoint, GROUP)
    mkdirSync(folder)
    // Of cpuset: a new group takes no process before it has these.
    if (mountPoint.endsWith('/cpuset'))
      for (const name of ['cpuset.cpus', 'cpuset.mems'])
        writeFileSync(join(folder, name), readFileSync(join(mountPoint, name)))
    moveTo(folder)
  }
  world = await World.make()
})
const killAll = (): void => {
  for (const { mountPoint } of HIERARCHIES)
    for (const pid of pidsIn(join(mountPoint, GROUP))) process.kill(pid, 'SIGKILL')
}
afterEach(async () => {
  for (const { before } of HIERARCHIES) moveTo(before)
  killAll()
  for (const { mountPoint } of HIERARCHIES) {
    await expect.poll(() => pidsIn(join(mountPoint, GROUP))).toEqual([])
    rmdirSync(join(mountPoint, GROUP))
  }
  expect(await world.end()).toEqual([])
})

// As docker has it: the service's container is a group in each hierarchy, and when it ends all that
// is in any of them is killed.
it('a container outlives the groups that its service was started in, whatever their hierarchy', async () => {
  expect(HIERARCHIES).not.toEqual([])
  const id = await world.start(['sh', '-c', 'trap "exit 7" TERM; echo up; while :; do sleep 0.05; done'])
  for await (const chunk of world.containers.logs(id, { follow: true })) if (chunk.bytes.includes('up')) break

  for (const { mountPoint, before } of HIERARCHIES) {
    // Its monitor leaves by and by.
    await expect.poll(() => pidsIn(join(mountPoint, GROUP)), { message: mountPoint }).toEqual([process.pid])
    moveTo(before)
  }
  killAll()
  await world.restart()
  expect(world.containers.get(id).state.status).toBe('running')
  expect(await world.containers.stop(id)).toEqual({ code: 7 })
})
