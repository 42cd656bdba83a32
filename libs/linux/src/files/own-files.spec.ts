import { execFileSync } from 'node:child_process'
import {
  closeSync,
  constants,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { openOwnFile, ownFolder, readOwnJson, setAside, UnusableFile } from './own-files.js'

let folder: string
let path: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'strata-own-'))
  path = join(folder, 'one')
})
afterEach(() => rmSync(folder, { recursive: true }))

const pipe = (at: string): unknown => execFileSync('mkfifo', [at])
const PLACES: readonly (readonly [string, string, () => void])[] = [
  ['no bytes', 'is empty', () => writeFileSync(path, '')],
  ['zeros', 'is not JSON', () => writeFileSync(path, Buffer.alloc(32))],
  ['garbage', 'is not JSON', () => writeFileSync(path, '\xff\xfe{')],
  ['half JSON', 'is not JSON', () => writeFileSync(path, '{"a": [1, 2')],
  [
    'too much',
    'has 65 bytes, more than the 64 that are read',
    () => writeFileSync(path, JSON.stringify('x'.repeat(63))),
  ],
  ['a folder', 'is a folder', () => mkdirSync(path)],
  ['a link', 'is a symbolic link', () => (writeFileSync(join(folder, 'other'), '1'), symlinkSync('other', path))],
  ['a link to nowhere', 'is a symbolic link', () => symlinkSync('/nowhere', path)],
  ['a pipe', 'is not a regular file', () => pipe(path)],
]

describe('a JSON file of ours', () => {
  it('is read; absent is not unusable', () => {
    expect(readOwnJson(path, 64)).toBeUndefined()
    writeFileSync(path, '{"a":1}')
    expect(readOwnJson(path, 64)).toEqual({ a: 1 })
  })

  it.each(PLACES)('%s in its place: says so', (_, why, place) => {
    place()
    expect(() => readOwnJson(path, 64)).toThrow(new UnusableFile(path, why))
  })

  it('below what is no folder', () => {
    writeFileSync(path, '')
    expect(() => readOwnJson(join(path, 'x'), 64)).toThrow(UnusableFile)
  })
})

describe('a file that may be lost', () => {
  it.each(PLACES.slice(5))('%s in its place: set aside', (_, _why, place) => {
    place()
    const fd = openOwnFile(path, constants.O_APPEND)
    writeSync(fd, 'new')
    closeSync(fd)
    expect(lstatSync(path).isFile()).toBe(true)
    expect(readFileSync(path, 'utf8')).toBe('new')
    expect(readdirSync(folder).filter((name) => name.startsWith('one.unreadable-'))).toHaveLength(1)
  })

  it('keeps what it has', () => {
    writeFileSync(path, 'old')
    closeSync(openOwnFile(path))
    expect(readFileSync(path, 'utf8')).toBe('old')
  })
})

it.each([
  ['one after the other', 1],
  ['within one millisecond', 0],
])('of what was set aside %s the newest four of a name are kept', (_, betweenMs) => {
  vi.useFakeTimers({ toFake: ['Date'] })
  writeFileSync(join(folder, 'another.unreadable-1'), '')
  for (let n = 0; n < 6; n++) {
    writeFileSync(path, String(n))
    setAside(path)
    vi.advanceTimersByTime(betweenMs)
  }
  vi.useRealTimers()
  const kept = readdirSync(folder).sort()
  expect(kept[0]).toBe('another.unreadable-1')
  expect(kept.slice(1).map((name) => readFileSync(join(folder, name), 'utf8'))).toEqual(['2', '3', '4', '5'])
})

it('a folder is made, may be a link to one, and a file in its place is refused in a sentence', () => {
  ownFolder(join(path, 'deep'))
  symlinkSync(join(path, 'deep'), join(folder, 'link'))
  ownFolder(join(folder, 'link'))
  writeFileSync(join(folder, 'file'), '')
  expect(() => ownFolder(join(folder, 'file'))).toThrow(
    `${join(folder, 'file')} is not a folder, or lies below what is none: move that away`,
  )
  expect(() => ownFolder(join(folder, 'file', 'below'))).toThrow(UnusableFile)
})
