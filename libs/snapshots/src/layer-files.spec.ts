import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { digestOf, type DiffId } from '@strata/oci'
import { afterAll, expect, it } from 'vitest'
import { withLayers } from './layer-files.js'

const folder = mkdtempSync(join(tmpdir(), 'strata-layer-files-'))
afterAll(() => rmSync(folder, { recursive: true }))

it('indexes that are too large together are refused before one of them is read', () => {
  const index = join(folder, 'index')
  writeFileSync(index, '')
  truncateSync(index, 2 ** 30)
  const layer = { diffId: digestOf('x') as string as DiffId, tar: join(folder, 'tar'), index }
  const open = (count: number) => () =>
    withLayers(
      Array.from({ length: count }, () => layer),
      () => undefined,
    )
  expect(open(3)).toThrow(
    expect.objectContaining({
      code: 'limit_exceeded',
      message: `the indexes of the image's 3 layers have ${3 * 2 ** 30} bytes together; the limit is ${2 ** 31}`,
    }) as Error,
  )
  expect(() => withLayers([{ ...layer, index: join(folder, 'none') }], () => undefined)).toThrow(
    expect.objectContaining({ code: 'layer_missing' }) as Error,
  )
})
