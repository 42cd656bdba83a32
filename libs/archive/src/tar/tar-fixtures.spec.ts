import { createHash } from 'node:crypto'
import { buffer } from 'node:stream/consumers'
import { extract } from 'tar-stream'
import { describe, expect, it } from 'vitest'
import { decompressor, detectCompression, ENTRY, looksLikeTar, TarReader } from '../index.js'
import { FIXTURES, openFixture } from '../testing/fixtures.js'

type Row = [
  name: string,
  type: string,
  size: number,
  mode: number,
  uid: number,
  mtime: number,
  link: string,
  sha256: string,
]
const TYPES = new Map<string, number>([
  ['file', ENTRY.file],
  ['link', ENTRY.hardlink],
  ['symlink', ENTRY.symlink],
  ['character-device', ENTRY.char],
  ['block-device', ENTRY.block],
  ['directory', ENTRY.directory],
  ['fifo', ENTRY.fifo],
])
const hashOf = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

async function plain(bytes: Buffer): Promise<Buffer> {
  const stream = decompressor(detectCompression(bytes))
  stream.end(bytes)
  return buffer(stream)
}

function ours(tar: Buffer, piece: number): { rows: Row[]; files: Buffer[] } {
  const rows: Row[] = []
  const files: Buffer[] = []
  let parts: Buffer[] = []
  const reader = new TarReader({
    entry(e) {
      // tar-stream has names as text, so names that are not UTF-8 are compared as what is left of
      // them.
      rows.push([e.path.toString(), String(e.type), e.size, e.mode, e.uid, e.mtime, e.link.toString(), ''])
      parts = []
      return true
    },
    data: (view) => void parts.push(view),
    entryEnd() {
      const bytes = Buffer.concat(parts)
      rows.at(-1)![7] = hashOf(bytes)
      files.push(bytes)
    },
  })
  for (let at = 0; at < tar.length; at += piece) reader.write(tar.subarray(at, at + piece))
  reader.end()
  return { rows, files }
}

async function theirs(tar: Buffer): Promise<Row[]> {
  const rows: Row[] = []
  const reader = extract()
  reader.end(tar)
  for await (const entry of reader) {
    const { name, type, size, mode, uid, mtime, linkname } = entry.header
    rows.push([
      name,
      String(TYPES.get(type)),
      size,
      mode & 0o7777,
      uid,
      Math.floor(mtime.getTime() / 1000),
      linkname || '',
      hashOf(await buffer(entry)),
    ])
  }
  return rows
}

/** Folders' names end in a slash here and not there. */
const alike = (rows: Row[]): Row[] => rows.map(([name, ...rest]) => [name.replace(/\/$/, ''), ...rest])

describe('TarReader and tar-stream', () => {
  for (const fixture of FIXTURES) {
    it(`agree on ${fixture} and on every layer in it`, async () => {
      const tar = await plain(await buffer(openFixture(fixture)))
      const { rows, files } = ours(tar, tar.length)
      expect(alike(rows)).toEqual(alike(await theirs(tar)))
      expect(ours(tar, 513).rows).toEqual(rows)
      for (const file of files) {
        const layer = file.length > 0 ? await plain(file) : file
        if (looksLikeTar(layer)) expect(alike(ours(layer, 4099).rows)).toEqual(alike(await theirs(layer)))
      }
    })
  }
})
