import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { World } from './testing/world.js'

let world: World
beforeAll(async () => {
  world = await World.make()
})
afterAll(async () => {
  expect(await world.end()).toEqual([])
})

describe('a container', () => {
  it('runs, and tells its exit code and output', async () => {
    expect(await world.run(['sh', '-c', 'echo out; echo err >&2; exit 7'])).toEqual({ code: 7, stdout: 'out\n', stderr: 'err\n' })
    expect(world.leaks()).toEqual([])
  })
})
