import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { Containers } from '../containers.js'
import { World } from '../testing/world.js'

let world: World
let run: string
beforeEach(async () => {
  world = await World.make()
  run = await mkdtemp('/run/strata-test-')
})
afterEach(async () => {
  expect(await world.end()).toEqual([])
  rmSync(run, { recursive: true })
})

const others = (): [what: string, options: typeof world.options][] => [
  ['name', { ...world.options, node: `${world.options.node}-b` }],
  ['run folder', { ...world.options, runFolder: run }],
  ['name and run folder', { ...world.options, node: `${world.options.node}-b`, runFolder: run }],
]

it('a service of another name or run folder does not start while containers run; the one of before has them all', async () => {
  const id = await world.start(['sleep', '1000'])
  await world.containers.close()
  for (const [, options] of others())
    await expect(Containers.open(options)).rejects.toMatchObject({
      code: 'in_use',
      message: expect.stringContaining(
        `belongs to the node ${world.options.node} with the run folder ${world.options.runFolder}, and its container ${id.slice(0, 12)} may still run: start the service as that node`,
      ) as string,
    })
  world.containers = await Containers.open(world.options)
  expect(world.containers.get(id).state.status).toBe('running')
})

it('it starts where nothing runs, and has the containers that have exited', async () => {
  const id = await world.start(['true'])
  await world.containers.wait(id)
  await world.containers.close()
  for (const [, options] of others()) {
    const containers = await Containers.open(options)
    expect(containers.get(id).state).toMatchObject({ status: 'exited', code: 0 })
    await containers.close()
  }
  world.containers = await Containers.open(world.options)
})

it('the same run folder by another path is the same', async () => {
  const id = await world.start(['sleep', '1000'])
  await world.containers.close()
  for (const path of [`${world.options.runFolder}/`, join('/proc/self/root', world.options.runFolder)])
    await (await Containers.open({ ...world.options, runFolder: path })).close()
  world.containers = await Containers.open(world.options)
  expect(world.containers.get(id).state.status).toBe('running')
})

it('only a whole note of this boot binds a service', async () => {
  const id = await world.start(['sleep', '1000'])
  await world.containers.close()
  const path = join(world.options.folder, 'served-as')
  const note: unknown = JSON.parse(readFileSync(path, 'utf8'))
  const of = (changes: object): string => JSON.stringify({ ...(note as object), ...changes })
  writeFileSync(path, of({ node: 'other' }))
  await expect(Containers.open(world.options)).rejects.toMatchObject({ code: 'in_use' })
  for (const text of [of({ node: 'other', bootId: 'another' }), of({ node: 'other' }).slice(0, -10), 'null']) {
    writeFileSync(path, text)
    world.containers = await Containers.open(world.options)
    expect(world.containers.get(id).state.status).toBe('running')
    await world.containers.close()
    expect(JSON.parse(readFileSync(path, 'utf8'))).toEqual(note)
  }
  world.containers = await Containers.open(world.options)
})
