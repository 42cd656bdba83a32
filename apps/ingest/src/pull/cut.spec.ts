import { buffer } from 'node:stream/consumers'
import { Readable } from 'node:stream'
import { expect, it } from 'vitest'
import { Cut } from './cut.js'

async function* source(...chunks: string[]): AsyncGenerator<Uint8Array> {
  for (const chunk of chunks) yield Promise.resolve(Buffer.from(chunk))
}
const read = async (piece: AsyncGenerator<Uint8Array>): Promise<string> =>
  (await buffer(Readable.from(piece))).toString()

it('cuts within chunks and across them', async () => {
  const cut = new Cut(source('abc', '', 'defgh', 'i'))
  const told: number[] = []
  expect(await read(cut.next(2))).toBe('ab')
  expect(await read(cut.next(4, (bytes) => told.push(bytes)))).toBe('cdef')
  expect(told).toEqual([1, 3])
  expect(await read(cut.next(0))).toBe('')
  // The stream ends first.
  expect(await read(cut.next(10))).toBe('ghi')
  expect(await read(cut.next(10))).toBe('')
})

it('reads no further than a piece needs, and closes the stream once', async () => {
  const seen: string[] = []
  async function* watched() {
    try {
      for (const chunk of ['ab', 'cd', 'ef']) {
        seen.push(chunk)
        yield Promise.resolve(Buffer.from(chunk))
      }
    } finally {
      seen.push('closed')
    }
  }
  const cut = new Cut(watched())
  expect(await read(cut.next(2))).toBe('ab')
  expect(seen).toEqual(['ab'])
  expect(await read(cut.next(1))).toBe('c')
  await cut.close()
  await cut.close()
  expect(seen).toEqual(['ab', 'cd', 'closed'])
})
