import { createHash } from 'node:crypto'
import { closeSync, openSync, readlinkSync, readSync, type Stats } from 'node:fs'
import { lgetxattr, llistxattr } from '@strata/linux'
import { walkTree, type Visited } from '../trees/tree.js'

/**
 * A tree as it is mounted, one JSON line an entry, sorted by the paths' bytes, in the form of the
 * fixtures' listings (libs/archive/fixtures/README.md): path (what is no UTF-8 as `\xNN`) and its
 * bytes, type, mode, owner, whole seconds of mtime; size and sha256, target, device, xattrs where
 * there are. No mount below it is entered.
 */
export function readTree(root: string): string[] {
  const lines: { path: Buffer; line: string }[] = []
  walkTree(root, (visited) => lines.push({ path: visited.path, line: JSON.stringify(describe(visited)) }))
  return lines.sort((a, b) => Buffer.compare(a.path, b.path)).map(({ line }) => line)
}

const LETTERS: Readonly<Record<string, string>> = {
  file: 'f',
  symlink: 'l',
  dir: 'd',
  fifo: 'p',
  char: 'c',
  block: 'b',
}

/** The same tree as the lines of `OddStack.tree` in `@strata/archive/testing`. */
export function describedFolder(root: string): string[] {
  const found: { path: Buffer; stats: Stats; row: Record<string, unknown> }[] = []
  walkTree(root, (visited) => void found.push({ ...visited, row: describe(visited) }))
  // Breadth first, each folder sorted: so the first of several names is that of the merged view.
  found.sort((a, b) => depthOf(a.path) - depthOf(b.path) || Buffer.compare(a.path, b.path))
  const firsts = new Map<number, string>()
  const lines = found.map(({ path: bytes, stats, row: { type, mode, uid, gid, target, xattrs } }) => {
    const path = bytes.length === 0 ? '/' : bytes.toString()
    const first = stats.isDirectory() || stats.nlink === 1 ? undefined : firsts.get(stats.ino)
    firsts.set(stats.ino, first ?? path)
    return [
      `${LETTERS[String(type)]!}${String(mode).slice(2)}`,
      `${String(uid)}:${String(gid)}`,
      path,
      ...(target === undefined ? [] : [`-> ${target as string}`]),
      ...(first === undefined ? [] : [`= ${first}`]),
      ...Object.keys(xattrs ?? {}).map((name) => `[${name}]`),
    ].join(' ')
  })
  return lines.sort()
}

function depthOf(path: Buffer): number {
  return path.reduce((depth, byte) => depth + (byte === 0x2f ? 1 : 0), 0)
}

function describe({ path, at, stats }: Visited): Record<string, unknown> {
  const line: Record<string, unknown> = {
    path: readable(path),
    pathBase64: path.toString('base64'),
    type: '',
    mode: `0o${(stats.mode & 0o7777).toString(8)}`,
    uid: stats.uid,
    gid: stats.gid,
    mtime: Math.floor(stats.mtimeMs / 1000),
  }
  if (stats.isFile()) Object.assign(line, { type: 'file', size: stats.size, sha256: sha256Of(at) })
  else if (stats.isSymbolicLink())
    Object.assign(line, { type: 'symlink', target: readable(readlinkSync(at, { encoding: 'buffer' })) })
  else if (stats.isDirectory()) line['type'] = 'dir'
  else if (stats.isFIFO()) line['type'] = 'fifo'
  else Object.assign(line, { type: stats.isCharacterDevice() ? 'char' : 'block', rdev: device(stats.rdev) })
  const names = llistxattr(at).sort((a, b) => Buffer.compare(a, b))
  if (names.length > 0)
    line['xattrs'] = Object.fromEntries(names.map((name) => [name.toString(), lgetxattr(at, name)?.toString('base64')]))
  return line
}

/** The kernel's encoding: 12 bits of major within 20 of minor. */
function device(rdev: number): [major: number, minor: number] {
  return [(rdev >>> 8) & 0xfff, (rdev & 0xff) | ((rdev >>> 12) & 0xfff00)]
}

function sha256Of(path: Buffer): string {
  const hash = createHash('sha256')
  const buffer = Buffer.allocUnsafe(1024 * 1024)
  const fd = openSync(path, 'r')
  try {
    for (let read = readSync(fd, buffer); read > 0; read = readSync(fd, buffer)) hash.update(buffer.subarray(0, read))
  } finally {
    closeSync(fd)
  }
  return hash.digest('hex')
}

function readable(bytes: Buffer): string {
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
  let text = ''
  for (let at = 0; at < bytes.length;) {
    const length = [1, 2, 3, 4].find((size) => {
      try {
        decoder.decode(bytes.subarray(at, at + size))
        return at + size <= bytes.length
      } catch {
        return false
      }
    })
    text +=
      length === undefined ? `\\x${bytes[at]!.toString(16).padStart(2, '0')}` : bytes.toString('utf8', at, at + length)
    at += length ?? 1
  }
  return text
}
