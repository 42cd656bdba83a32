import { ENTRY, TarEntry } from '@strata/archive'
import { IndexBuilder, mergeLayers, type MergedTree } from '@strata/layers'
import { expect, it } from 'vitest'
import { folderPage } from './folder.js'
import { fileBytes, findFile } from './file.js'
import { LayerCursor } from './layer-cursor.js'

/** A tar as a cursor reads it: each opening is noted, and its stream ends where it is told to. */
class Tar {
  readonly opened: number[] = []
  constructor(
    private readonly bytes: Buffer,
    private readonly piece = 7,
  ) {}

  readonly open = (start: number) => {
    this.opened.push(start)
    const { bytes, piece } = this
    async function* body(): AsyncGenerator<Uint8Array> {
      for (let at = start; at < bytes.length; at += piece) yield await Promise.resolve(bytes.subarray(at, at + piece))
    }
    return Promise.resolve({ at: start, body: body() })
  }
}

const all = async (pieces: AsyncIterable<Uint8Array>): Promise<string> => {
  const found: Uint8Array[] = []
  for await (const piece of pieces) found.push(piece)
  return Buffer.concat(found).toString()
}

it('parts in the order of the tar are one pass over it; what is far ahead, or behind, is opened anew', async () => {
  const tar = new Tar(Buffer.from('0123456789abcdefghijklmnopqrstuvwxyz'))
  await using cursor = new LayerCursor(tar.open, 10)
  expect(await all(cursor.take(1, 3))).toBe('12')
  expect(await all(cursor.take(3, 9))).toBe('345678')
  expect(await all(cursor.take(15, 18))).toBe('fgh')
  expect(tar.opened).toEqual([1])
  expect(await all(cursor.take(30, 36))).toBe('uvwxyz')
  expect(await all(cursor.take(0, 2))).toBe('01')
  expect(tar.opened).toEqual([1, 30, 0])
  await expect(all(cursor.take(30, 40))).rejects.toMatchObject({ code: 'corrupt' })
})

function treeOf(files: Readonly<Record<string, number>>): MergedTree {
  const builder = new IndexBuilder()
  let at = 512
  for (const [path, size] of Object.entries(files)) {
    const entry = { path: Buffer.from(path), type: ENTRY.file, mode: 0o644, size, dataOffset: at }
    builder.entry(Object.assign(new TarEntry(), entry))
    builder.entryEnd()
    at += 512 + Math.ceil(size / 512) * 512
  }
  return mergeLayers([builder.finish(at)])
}

it('a folder is listed by pages, in the order of the names', () => {
  const tree = treeOf({ b: 1, a: 2, c: 3 })
  const page = (offset: number, limit: number) => {
    const { files, next, total } = folderPage({ tree, layers: [] }, Buffer.from('/'), { offset, limit }, false)
    return [files.map(({ name, size }) => `${name} ${size}`), next, total]
  }
  expect(page(0, 2)).toEqual([['a 2', 'b 1'], 2, 3])
  expect(page(2, 2)).toEqual([['c 3'], undefined, 3])
  expect(page(9, 2)).toEqual([[], undefined, 3])
})

it('the bytes of a file, and of any part of it, are where the tree says', async () => {
  const tree = treeOf({ first: 3, second: 10 })
  const tar = Buffer.alloc(4096)
  tar.write('abc', 512)
  tar.write('0123456789', 1536)
  const layer = { digest: '', diffId: 'sha256:00', chainId: '', size: 0, mediaType: '' } as never
  const found = findFile({ tree, layers: [layer] }, Buffer.from('/second'))
  expect(found.size).toBe(10)
  const bytes = { cursor: () => new LayerCursor(new Tar(tar, 100).open, 1_000) }
  expect(await all(fileBytes(found, { start: 0, end: 10 }, bytes))).toBe('0123456789')
  expect(await all(fileBytes(found, { start: 4, end: 6 }, bytes))).toBe('45')
  expect(() => findFile({ tree, layers: [layer] }, Buffer.from('/'))).toThrow(/is a folder: it has no bytes/)
  expect(() => findFile({ tree, layers: [layer] }, Buffer.from('/third'))).toThrow(
    expect.objectContaining({ code: 'not_found' }) as Error,
  )
})
