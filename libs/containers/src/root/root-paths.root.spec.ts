import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { RootPaths } from './root-paths.js'

let folder: string
let root: string
let paths: RootPaths
beforeEach(() => {
  folder = mkdtempSync('/var/tmp/strata-root-paths-')
  root = join(folder, 'root')
  mkdirSync(root)
  paths = new RootPaths(root)
})
afterEach(() => {
  paths.close()
  expect(readdirSync(folder)).toEqual(['root'])
  rmSync(folder, { recursive: true })
})

const descriptors = (): number => readdirSync('/proc/self/fd').length

it('a deep folder is made while the event loop goes on turning', async () => {
  let turns = 0
  let isOver = false
  const turn = (): void => {
    turns++
    if (!isOver) setImmediate(turn)
  }
  setImmediate(turn)
  const before = descriptors()
  const deep = '/d'.repeat(1_900)
  expect(await paths.makeFolder(deep)).toBe(deep)
  expect(await paths.makeFolder(`${deep}/../e/./f/`)).toBe(`${'/d'.repeat(1_899)}/e/f`)
  isOver = true
  expect(turns).toBeGreaterThan(10)
  expect(descriptors()).toBeLessThanOrEqual(before)
  expect(lstatSync(join(root, 'd/d/d')).mode & 0o7777).toBe(0o755)
})

it('all paths together take a bounded number of steps', async () => {
  mkdirSync(join(root, 'd'))
  for (let n = 0; n < 40; n++) symlinkSync(`${'d/../'.repeat(120)}l${n + 1}`, join(root, `l${n}`))
  const before = descriptors()
  expect(await paths.makeFolder('/l0')).toBe('/l40')
  await expect(paths.makeFolder('/l0')).rejects.toMatchObject({
    code: 'launch_failed',
    message: 'the paths of the container take more than 16384 steps; the last one is "/l0"',
  })
  expect(descriptors()).toBeLessThanOrEqual(before)
})

it('links that lead ever deeper end where no path is taken any more', async () => {
  symlinkSync(`${'a'.repeat(200)}/`.repeat(15) + 'l1', join(root, 'l0'))
  mkdirSync(join(root, `${'a'.repeat(200)}/`.repeat(15)), { recursive: true })
  symlinkSync(`${'b'.repeat(200)}/`.repeat(15), join(root, `${'a'.repeat(200)}/`.repeat(15), 'l1'))
  await expect(paths.makeFolder('/l0')).rejects.toMatchObject({
    code: 'launch_failed',
    message: expect.stringContaining('more than 4095 bytes') as string,
  })
})

it('a link is made where nothing is, inside the root, and nothing takes its place', async () => {
  symlinkSync('/elsewhere', join(root, 'etc'))
  await paths.makeLink('/etc/mtab', '/proc/mounts')
  expect(readlinkSync(join(root, 'elsewhere/mtab'))).toBe('/proc/mounts')
  for (const name of ['mtab', 'file']) {
    if (name === 'file') writeFileSync(join(root, 'elsewhere/file'), 'x')
    await paths.makeLink(`/etc/${name}`, '/other')
  }
  expect(readlinkSync(join(root, 'elsewhere/mtab'))).toBe('/proc/mounts')
  expect(readFileSync(join(root, 'elsewhere/file'), 'utf8')).toBe('x')
  writeFileSync(join(root, 'plain'), '')
  await expect(paths.makeLink('/plain/x', '/other')).rejects.toMatchObject({ code: 'launch_failed' })
})

it('a file is made once, and only where there is none', async () => {
  expect(await paths.makeFile('/etc/hosts')).toBe('/etc/hosts')
  writeFileSync(join(root, 'etc/hosts'), 'x')
  expect(await paths.makeFile('/etc/hosts')).toBe('/etc/hosts')
  expect(lstatSync(join(root, 'etc/hosts')).size).toBe(1)
  await expect(paths.makeFolder('/etc/hosts/x')).rejects.toMatchObject({
    message: "the container's /etc/hosts is not a folder, which /etc/hosts/x cannot be",
  })
})
