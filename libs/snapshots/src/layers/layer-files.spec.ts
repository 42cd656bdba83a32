import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { stackMemory } from '@strata/archive'
import { IndexMemory } from '@strata/layers'
import { digestOf, type DiffId } from '@strata/oci'
import { afterAll, expect, it } from 'vitest'
import type { LayerFiles } from '../snapshotter.js'
import { withLayers, withStackMemory } from './layer-files.js'

const folder = mkdtempSync(join(tmpdir(), 'strata-layer-files-'))
afterAll(() => rmSync(folder, { recursive: true }))

const layerOf = (size: number): LayerFiles => {
  const index = join(folder, `index-${size}`)
  writeFileSync(index, '')
  truncateSync(index, size)
  return { diffId: digestOf('x') as string as DiffId, tar: join(folder, 'tar'), index }
}
const { signal } = new AbortController()

it('a stack takes memory for all its indexes before one of them is read, and gives it back', async () => {
  const memory = new IndexMemory(2 ** 30)
  const layers = Array.from({ length: 3 }, () => layerOf(2 ** 27))
  const taken = await withStackMemory(memory, layers, signal, () => Promise.resolve(memory.taken))
  expect([taken, memory.taken]).toEqual([stackMemory(3 * 2 ** 27), 0])
  await expect(withStackMemory(memory, layers, signal, () => Promise.reject(new Error('it failed')))).rejects.toThrow()
  expect(memory.taken).toBe(0)
})

it('a stack that needs more than there is, and one without an index, is refused', async () => {
  const memory = new IndexMemory(2 ** 30)
  const never = (): Promise<never> => Promise.reject(new Error('it was done'))
  const large = Array.from({ length: 4 }, () => layerOf(2 ** 27))
  await expect(withStackMemory(memory, large, signal, never)).rejects.toMatchObject({
    code: 'limit_exceeded',
    message:
      'an image of 4 layers needs 906 MiB of memory for indexes; the limit is 768 MiB, three quarters of STRATA_INDEX_MEMORY',
  })
  const gone = { ...layerOf(1), index: join(folder, 'none') }
  await expect(withStackMemory(memory, [gone], signal, never)).rejects.toMatchObject({ code: 'layer_missing' })
  expect(() => withLayers([gone], () => undefined)).toThrow(expect.objectContaining({ code: 'layer_missing' }) as Error)
})
