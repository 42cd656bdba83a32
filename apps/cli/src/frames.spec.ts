import { PassThrough, Writable } from 'node:stream'
import { setImmediate as turn } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { demultiplex, FrameReader } from './frames.js'
import { frame } from './testing/service-double.js'

async function* chunks(...pieces: Buffer[]): AsyncGenerator<Buffer> {
  for (const piece of pieces) {
    await turn()
    yield piece
  }
}

describe('FrameReader', () => {
  const bytes = Buffer.concat([frame(1, 'hello '), frame(2, 'oops'), frame(1, ''), frame(1, 'world')])
  it.each([1, 2, 3, 7, 8, 9, 1000])('reads frames cut every %d bytes', (size) => {
    const reader = new FrameReader()
    const got = { 1: '', 2: '' }
    for (let at = 0; at < bytes.length; at += size)
      reader.push(bytes.subarray(at, at + size), (stream, piece) => (got[stream] += piece.toString()))
    reader.end()
    expect(got).toEqual({ 1: 'hello world', 2: 'oops' })
  })
  it('refuses what is not in frames', () => {
    expect(() => new FrameReader().push(Buffer.from('plain text'), () => undefined)).toThrow('not in frames')
  })
  it.each([3, 10])('refuses a stream cut after %d bytes', (size) => {
    const reader = new FrameReader()
    reader.push(bytes.subarray(0, size), () => undefined)
    expect(() => reader.end()).toThrow('cut in the middle')
  })
})

describe('demultiplex', () => {
  it('reads no further while an output is full', async () => {
    const source = new PassThrough({ highWaterMark: 1 })
    const out = new PassThrough({ highWaterMark: 1 })
    let pulled = 0
    async function* counted(): AsyncGenerator<Buffer> {
      for (let n = 0; n < 50; n++) {
        pulled++
        yield frame(1, Buffer.alloc(100, n))
        await turn()
      }
    }
    const done = demultiplex(counted(), out, new PassThrough())
    for (let n = 0; n < 20; n++) await turn()
    expect(pulled).toBe(1)
    const got: Buffer[] = []
    out.on('data', (piece: Buffer) => got.push(piece))
    await done
    expect(Buffer.concat(got)).toHaveLength(5000)
    source.destroy()
  })
  it('rejects with the error of an output whose reader is gone', async () => {
    const gone = new Writable({
      write: (_chunk, _encoding, done) => done(Object.assign(new Error('gone'), { code: 'EPIPE' })),
    })
    await expect(
      demultiplex(chunks(frame(1, 'a'), frame(1, 'b'), frame(1, 'c')), gone, new PassThrough()),
    ).rejects.toMatchObject({ isGone: true })
  })
})
