import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { makePrivateMount, MNT_DETACH, mountTable, umount } from '@strata/linux'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { PrivateMounts } from './private-mounts.js'

let base: string
let folder: string
beforeEach(() => {
  base = mkdtempSync('/var/tmp/strata-private-')
  folder = join(base, 'node')
  mkdirSync(folder)
})
afterEach(() => {
  for (const path of mounted().reverse()) umount(path, MNT_DETACH)
  rmSync(base, { recursive: true })
})

const mounted = (): string[] =>
  mountTable()
    .map(({ mountPoint }) => mountPoint)
    .filter((path) => path.startsWith(`${base}/`))
const all = (): string[] => ['snapshots', 'roots', 'mounts'].map((name) => join(folder, name))

it('end with their owner, and twice is once', () => {
  const listeners = process.listenerCount('exit')
  const mounts = new PrivateMounts(folder)
  expect(mounted()).toEqual(all())
  mounts[Symbol.dispose]()
  expect(mounted()).toEqual([])
  mounts[Symbol.dispose]()
  expect(process.listenerCount('exit')).toBe(listeners)
})

it('are one process’s at a time: another one neither has nor ends them', () => {
  const mounts = new PrivateMounts(folder)
  expect(() => new PrivateMounts(folder)).toThrow(`another process serves the node in ${folder}`)
  expect(mounted()).toEqual(all())
  mounts[Symbol.dispose]()
  const next = new PrivateMounts(folder)
  expect(mounted()).toEqual(all())
  next[Symbol.dispose]()
})

it('end also while a driver is tried in them', () => {
  const mounts = new PrivateMounts(folder)
  makePrivateMount(join(folder, 'snapshots', 'probe-x', 'driver'))
  mounts[Symbol.dispose]()
  expect(mounted()).toEqual([])
  expect(readdirSync(join(folder, 'snapshots'))).toEqual([])
})

it('stay where something is mounted in them, also if the folder is given by a link', () => {
  symlinkSync('node', join(base, 'link'))
  const mounts = new PrivateMounts(join(base, 'link'))
  const container = makePrivateMount(join(folder, 'roots', 'container'))
  mounts[Symbol.dispose]()
  expect(mounted()).toEqual([join(folder, 'roots'), container])
})
