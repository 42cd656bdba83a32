import { lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { concat, file, header, pax, paxHeader, ZEROS } from '@strata/archive/testing'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { copyTree } from '../drivers/vfs/copy-tree.js'
import { WHITEOUTS } from '../drivers/overlay/whiteouts.js'
import type { LayerFiles } from '../snapshotter.js'
import { storeLayer } from '../testing/make-layers.js'
import { readTree } from '../testing/rootfs-listing.js'
import { applyLayers } from './apply-layers.js'
import { inPlace } from './in-place.js'

/** What the kernel was asked to walk. */
const walked = vi.hoisted(() => ({ components: 0, highest: 0 }))
vi.mock('@strata/linux', async (original) => {
  const linux = await original<typeof import('@strata/linux')>()
  return {
    ...linux,
    openat2: (...args: Parameters<typeof linux.openat2>) => {
      walked.components += args[1].toString().split('/').length
      const fd = linux.openat2(...args)
      walked.highest = Math.max(walked.highest, fd)
      return fd
    },
  }
})

let base: string
beforeEach(() => {
  base = mkdtempSync('/var/tmp/strata-deep-')
  for (const name of ['layers', 'work', 'copy']) mkdirSync(join(base, name))
  walked.components = walked.highest = 0
})
afterEach(() => rmSync(base, { recursive: true }))

const layer = (...parts: Uint8Array[]): LayerFiles => storeLayer(join(base, 'layers'), concat(...parts, ZEROS))
const folder = (): string => join(base, 'work', 'fs')
const FORMS = {
  'of overlay': WHITEOUTS,
  'in place': inPlace('/nothing/is/removed'),
}
const FORM_NAMES = Object.keys(FORMS) as (keyof typeof FORMS)[]
const apply = (form: keyof typeof FORMS, ...layers: LayerFiles[]): void =>
  applyLayers(
    layers,
    layers.map((_, place) => ({ place, folder: folder() })),
    FORMS[form],
  )

const deepName = (n: number, depth: number): string => `${n}/${'d/'.repeat(depth - 1)}f`
/** As many folders as `count * depth`, by as many names as `count`. */
const deep = (count: number, depth: number): Buffer[] =>
  Array.from({ length: count }, (_, n) => concat(paxHeader(pax('path', deepName(n, depth))), file('f', '')))
const NAMES = 4
const DEPTH = 150
const LINKS = 200
const FOLDERS = NAMES * DEPTH

it.each(FORM_NAMES)('a folder and a link cost the same at any depth, with few descriptors: %s', (form) => {
  const targets = Array.from({ length: LINKS }, (_, n) =>
    concat(paxHeader(pax('linkpath', deepName(n % NAMES, DEPTH))), header({ name: `l${n}`, type: '1', link: 'f' })),
  )
  apply(form, layer(...deep(NAMES, DEPTH), ...targets))
  expect(walked.components).toBeGreaterThan(FOLDERS)
  expect(walked.components).toBeLessThan(6 * FOLDERS)
  const open = readdirSync('/proc/self/fd').map(Number)
  expect(walked.highest).toBeLessThan(Math.max(...open) + 50)
  expect(lstatSync(join(folder(), 'l0')).nlink).toBe(1 + LINKS / NAMES)
  expect(readdirSync(join(base, 'work'))).toEqual(['fs'])

  walked.components = walked.highest = 0
  copyTree({ from: folder(), to: join(base, 'copy', 'fs'), isSynced: false })
  expect(walked.components).toBeGreaterThan(FOLDERS)
  expect(walked.components).toBeLessThan(6 * FOLDERS)
  expect(walked.highest).toBeLessThan(Math.max(...open) + 100)
  expect(lstatSync(join(base, 'copy', 'fs', 'l0')).nlink).toBe(1 + LINKS / NAMES)
  expect(readdirSync(join(base, 'copy'))).toEqual(['fs'])
  expect(readTree(join(base, 'copy', 'fs'))).toEqual(readTree(folder()))
})

it.each(FORM_NAMES)('links come to what they name wherever it stands, and folders keep their times: %s', (form) => {
  const dir = (name: string, mtime: number): Buffer => header({ name, type: '5', mode: 0o755, mtime })
  apply(
    form,
    layer(
      dir('a', 100),
      dir('a/b', 200),
      dir('z', 300),
      dir('z/y', 400),
      file('z/y/target', 'content', { mtime: 500 }),
      file('alone', 'other', { mtime: 600 }),
      header({ name: 'a/b/first', type: '1', link: 'z/y/target' }),
      header({ name: 'a/second', type: '1', link: 'a/b/first' }),
      header({ name: 'z/third', type: '1', link: 'z/y/target' }),
    ),
  )
  const at = (path: string) => lstatSync(join(folder(), path))
  for (const link of ['a/b/first', 'a/second', 'z/third']) expect(at(link).ino).toBe(at('z/y/target').ino)
  expect([at('z/y/target').nlink, at('alone').nlink]).toEqual([4, 1])
  expect(readFileSync(join(folder(), 'a/second'), 'utf8')).toBe('content')
  expect(['a', 'a/b', 'z', 'z/y', 'z/y/target', 'alone'].map((path) => at(path).mtimeMs / 1000)).toEqual([
    100, 200, 300, 400, 500, 600,
  ])
})
