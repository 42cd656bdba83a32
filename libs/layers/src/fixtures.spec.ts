import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { zstdDecompressSync } from 'node:zlib'
import { ENTRY, TarReader, type TarSink } from '@strata/archive'
import { beforeAll, describe, expect, it } from 'vitest'
import { IndexBuilder } from './index/index-builder.js'
import { KIND } from './kind.js'
import { LayerIndex } from './index/layer-index.js'
import type { MergedTree } from './merge/merged-tree.js'
import { mergeLayers } from './merge/tree-merger.js'

const FOLDER = new URL('../../archive/fixtures/', import.meta.url)
const TYPES = {
  [KIND.file]: 'file',
  [KIND.directory]: 'dir',
  [KIND.symlink]: 'symlink',
  [KIND.char]: 'char',
  [KIND.block]: 'block',
  [KIND.fifo]: 'fifo',
} as Record<number, string>

function fixture(name: string): Buffer {
  return zstdDecompressSync(readFileSync(new URL(`${name}.zst`, FOLDER)))
}

/** The files of an outer archive, by name. */
function filesOf(archive: Buffer): Map<string, Buffer> {
  const files = new Map<string, Buffer>()
  const sink: TarSink = {
    entry(entry) {
      if (entry.type === ENTRY.file)
        files.set(entry.path.toString(), archive.subarray(entry.dataOffset, entry.dataOffset + entry.size))
      return false
    },
    data: () => undefined,
    entryEnd: () => undefined,
  }
  const reader = new TarReader(sink)
  reader.write(archive)
  reader.end()
  return files
}

function indexOf(tar: Buffer): LayerIndex {
  const builder = new IndexBuilder()
  const reader = new TarReader(builder)
  reader.write(tar)
  reader.end()
  return LayerIndex.decode(builder.finish(tar.length).encode())
}

/** One line of the listing, from the merged tree and the tars. */
function lineOf(tree: MergedTree, tars: readonly Buffer[], node: number): Record<string, unknown> {
  const inode = tree.inode(node)
  const path = tree.path(node)
  const type = TYPES[tree.kind(inode)]
  const line: Record<string, unknown> = {
    pathBase64: path.toString('base64'),
    type,
    mode: `0o${(tree.mode(inode) & 0o7777).toString(8)}`,
    uid: tree.uid(inode),
    gid: tree.gid(inode),
    mtime: tree.mtime(inode),
  }
  if (type === 'file') {
    expect(tree.sparse(inode)).toBeUndefined()
    const start = tree.dataOffset(inode)
    line['size'] = tree.size(inode)
    line['sha256'] = createHash('sha256')
      .update(tars[tree.layer(inode)]!.subarray(start, start + tree.size(inode)))
      .digest('hex')
  }
  if (type === 'symlink') line['target'] = tree.symlink(inode).toString()
  if (type === 'char' || type === 'block') line['rdev'] = [tree.major(inode), tree.minor(inode)]
  const xattrs = tree.xattrs(inode)
  if (xattrs.length > 0)
    line['xattrs'] = Object.fromEntries(xattrs.map(([name, value]) => [name.toString(), value.toString('base64')]))
  return line
}

describe('fx/odd:3, as the real tools wrote it', () => {
  let tars: Buffer[]
  let tree: MergedTree

  beforeAll(() => {
    const files = filesOf(fixture('docker20-odd.tar'))
    const [image] = JSON.parse(files.get('manifest.json')!.toString()) as { Layers: string[] }[]
    tars = image!.Layers.map((name) => files.get(name)!)
    tree = mergeLayers(tars.map(indexOf))
  })

  it('shows the root file system that two independent extractors made, line by line', () => {
    const expected = fixture('docker20-odd.rootfs.jsonl')
      .toString('utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>)
    // The readable path escapes what is not UTF-8 in a way of its own; the bytes are what counts.
    for (const line of expected) delete line['path']
    const nodes = Array.from({ length: tree.nodeCount }, (_, node) => node).sort((a, b) =>
      Buffer.compare(tree.path(a), tree.path(b)),
    )
    expect(nodes.map((node) => lineOf(tree, tars, node))).toEqual(expected)
  })

  it('has the same index whatever the pieces the tar came in', () => {
    for (const tar of tars) {
      const builder = new IndexBuilder()
      const reader = new TarReader(builder)
      for (let at = 0; at < tar.length; at += 1000) reader.write(tar.subarray(at, at + 1000))
      reader.end()
      expect(builder.finish(tar.length).encode().equals(indexOf(tar).encode())).toBe(true)
    }
  })
})

describe('an empty tar', () => {
  it('is a layer of the root alone', () => {
    const tree = mergeLayers([indexOf(Buffer.alloc(1024))])
    expect([tree.nodeCount, tree.mode(0)]).toEqual([1, 0o40755])
    expect(mergeLayers([]).nodeCount).toBe(1)
  })
})
