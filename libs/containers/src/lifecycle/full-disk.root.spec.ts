import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, rmdirSync, unlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { mount, umount } from '@strata/linux'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { World } from '../testing/world.js'

let disk: string
let world: World
const warnings: string[] = []
beforeEach(async () => {
  disk = mkdtempSync('/var/tmp/strata-full-disk-')
  mount('tmpfs', disk, 'tmpfs', 0, 'size=16m,nr_inodes=50')
  world = await World.make({ folder: join(disk, 'containers'), warn: (message) => warnings.push(message) })
})
afterEach(async () => {
  makeRoom()
  expect(warnings.splice(0)).toEqual([])
  expect(await world.end()).toEqual([])
  umount(disk)
  rmdirSync(disk)
})
const fill = (): void => {
  const write = (): void => {
    for (let n = 0; ; n++) writeFileSync(join(disk, `file-${n}`), '')
  }
  expect(write).toThrow('ENOSPC')
}
const makeRoom = (): void => {
  for (const name of readdirSync(disk).filter((name) => name.startsWith('file-'))) unlinkSync(join(disk, name))
}

it('a container is removed from a disk that takes no further file', async () => {
  const id = await world.start(['echo', 'text'])
  await world.containers.wait(id)
  fill()
  await world.containers.remove(id)
  expect(readdirSync(world.options.folder)).not.toContain(id)
  await world.restart()
  expect(world.containers.list()).toEqual([])
  await expect(world.containers.claim(id, world.claimOf({}))).rejects.toMatchObject({ code: 'container_not_found' })
})

it('a container that is told to have ended has no process any more, also if that cannot be recorded', async () => {
  const id = await world.start(['sleep', '1000'])
  const { state } = world.containers.get(id)
  const pid = state.status === 'running' ? state.pid : undefined
  expect(existsSync(`/proc/${pid}`)).toBe(true)
  fill()
  const monitor = execFileSync('pgrep', ['-f', `^conmon .*--cid ${id}`]).toString()
  process.kill(Number(monitor), 'SIGKILL')
  expect(await world.containers.wait(id)).toMatchObject({ code: 255 })
  // Whoever takes orphans in reaps it.
  await expect.poll(() => existsSync(`/proc/${pid}`)).toBe(false)
  expect(warnings.splice(0)).toEqual([expect.stringContaining('cannot record the end of') as string])
  makeRoom()
  await world.restart()
  expect(world.containers.get(id).state).toMatchObject({ status: 'exited', code: 255 })
  await world.containers.remove(id)
})
