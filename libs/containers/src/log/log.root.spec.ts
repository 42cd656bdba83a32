import { createHash, randomBytes } from 'node:crypto'
import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { World } from '../testing/world.js'

let world: World
beforeAll(async () => {
  world = await World.make({ logLimits: { maxBytes: 2 ** 18, generations: 3, heldBytes: 2 ** 30 } })
})
afterAll(async () => {
  expect(await world.end()).toEqual([])
})

const sha = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex')

it('100 MB of random bytes arrive byte for byte at a reader that pauses, over many rotations', async () => {
  const bytes = randomBytes(100_000_000)
  await world.useRoot((root) => writeFile(join(root, 'random'), bytes))
  const id = await world.claim(['cat', '/random'], {}, { attached: true })
  const hash = createHash('sha256')
  let size = 0
  let paused = false
  const reading = (async () => {
    for await (const chunk of world.containers.logs(id, { follow: true, foreground: true })) {
      hash.update(chunk.bytes)
      size += chunk.bytes.length
      if (!paused) {
        paused = true
        // Until the container has written all of it: nothing may be dropped meanwhile.
        await world.containers.wait(id)
      }
    }
  })()
  await world.containers.launch(id)
  await reading
  expect(size).toBe(bytes.length)
  expect(hash.digest('hex')).toBe(sha(bytes))
  expect((await readdir(join(world.options.folder, id, 'log'))).length).toBeGreaterThan(3)
  await world.containers.remove(id)
})

it('without a foreground reader only the newest generations are kept, with no gap in them', async () => {
  const id = await world.start(['sh', '-c', 'i=0; while [ $i -lt 12 ]; do seq 20000; i=$((i+1)); sleep 0.02; done; echo end'])
  await world.containers.wait(id)
  const names = await readdir(join(world.options.folder, id, 'log'))
  expect(names.length).toBeLessThanOrEqual(4)
  const lines = (await world.output(id)).toString().trimEnd().split('\n')
  expect(lines.pop()).toBe('end')
  lines.shift()
  for (let i = 1; i < lines.length; i++) expect(Number(lines[i])).toBe((Number(lines[i - 1]) % 20000) + 1)
  expect((await world.output(id, { tail: 2 })).toString()).toBe('20000\nend\n')
  await world.containers.remove(id)
})
