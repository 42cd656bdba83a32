import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { concat, file, fixtureListing, header, pax, paxHeader, ZEROS } from '@strata/archive/testing'
import { afterEach, beforeEach, expect, it } from 'vitest'
import type { LayerFiles } from '../snapshotter.js'
import { storeFixture, storeLayer } from '../testing/make-layers.js'
import { readTree } from '../testing/rootfs-listing.js'
import { applyLayers } from './apply-layers.js'
import { inPlace } from './in-place.js'

let base: string
beforeEach(() => {
  base = mkdtempSync('/var/tmp/strata-in-place-')
  for (const name of ['layers', 'work']) mkdirSync(join(base, name))
})
afterEach(() => rmSync(base, { recursive: true }))

/** Each layer onto the same folder. */
function applied(layers: readonly LayerFiles[]): string {
  const folder = join(base, 'work', 'fs')
  const targets = layers.map((_, place) => ({ place, folder }))
  applyLayers(layers, targets, inPlace(join(base, 'work', 'aside')))
  expect(readdirSync(join(base, 'work'))).toEqual(['fs'])
  return folder
}
const layer = (...parts: Uint8Array[]): LayerFiles => storeLayer(join(base, 'layers'), concat(...parts, ZEROS))
const dir = (name: string, mode = 0o755): Buffer => header({ name, type: '5', mode, uid: 0, gid: 0 })

it('the layers of the reference image, one over the other in one folder, are the image line by line', async () => {
  expect(readTree(applied(await storeFixture(join(base, 'layers'), 'docker20-odd.tar')))).toEqual(
    await fixtureListing(),
  )
})

it('what a layer hides is gone, also a tree of folders, and what replaces it keeps nothing of it', () => {
  const note = paxHeader(pax('SCHILY.xattr.user.note', 'old'))
  const root = applied([
    layer(dir('gone'), dir('gone/a'), dir('gone/a/b'), file('gone/a/b/c', ''), dir('o'), dir('o/x'), file('o/x/y', '')),
    layer(note, dir('kept'), file('kept/in', 'x'), dir('was-folder'), file('was-folder/f', ''), file('was-file', '')),
    layer(
      file('.wh.gone', ''),
      file('o/.wh..wh..opq', ''),
      file('o/new', ''),
      dir('kept', 0o700),
      file('was-folder', ''),
      dir('was-file'),
      header({ name: 'link', type: '1', link: 'kept/in' }),
    ),
  ])
  const tree = readTree(root).map((line) => JSON.parse(line) as Record<string, unknown>)
  expect(tree.map(({ path, type, mode, xattrs }) => [path, type, mode, xattrs])).toEqual([
    ['', 'dir', '0o755', undefined],
    ['kept', 'dir', '0o700', undefined],
    ['kept/in', 'file', '0o644', undefined],
    ['link', 'file', '0o644', undefined],
    ['o', 'dir', '0o755', undefined],
    ['o/new', 'file', '0o644', undefined],
    ['was-file', 'dir', '0o755', undefined],
    ['was-folder', 'file', '0o644', undefined],
  ])
})
