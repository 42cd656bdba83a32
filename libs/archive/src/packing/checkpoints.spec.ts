import { describe, expect, it } from 'vitest'
import { CHECKPOINTS_HEADER, checkpointBefore, checkpointRows, encodeCheckpoints } from '../index.js'

describe('checkpoints', () => {
  const object = encodeCheckpoints([
    { packed: 100, bit: 0, out: 1000, window: Buffer.from('first') },
    { packed: 800, bit: 5, out: 2000, window: Buffer.alloc(0) },
    { packed: 999, bit: 0, out: 3000, window: Buffer.from('third') },
  ])

  it('are found by a byte of the tar, each up to the next one', () => {
    expect(checkpointBefore(object, 999, 5000)).toBeUndefined()
    expect(
      [1000, 1999, 2000, 2999, 3000, 4999]
        .map((offset) => checkpointBefore(object, offset, 5000))
        .map((point) => point && [point.packed, point.bit, point.out, point.end]),
    ).toEqual([
      [100, 0, 1000, 2000],
      [100, 0, 1000, 2000],
      [800, 5, 2000, 3000],
      [800, 5, 2000, 3000],
      [999, 0, 3000, 5000],
      [999, 0, 3000, 5000],
    ])
  })

  it('know their windows, and what they belong to', () => {
    const [first, second, third] = [1000, 2000, 3000].map((offset) => checkpointBefore(object, offset, 5000)!)
    expect(object.subarray(first!.window.start, first!.window.end).toString()).toBe('first')
    expect(second!.window.end).toBe(second!.window.start)
    expect([
      first!.isWindow(Buffer.from('first')),
      second!.isWindow(Buffer.alloc(0)),
      third!.isWindow(Buffer.from('third')),
    ]).toEqual([true, true, true])
    expect([
      first!.isWindow(Buffer.from('third')),
      second!.isWindow(Buffer.from('first')),
      third!.isWindow(Buffer.alloc(0)),
    ]).toEqual([false, false, false])
    const moved = Buffer.from(object)
    moved.writeDoubleLE(101, CHECKPOINTS_HEADER)
    expect(checkpointBefore(moved, 1000, 5000)!.isWindow(Buffer.from('first'))).toBe(false)
    moved.writeDoubleLE(100.01, CHECKPOINTS_HEADER)
    expect(() => checkpointBefore(moved, 1000, 5000)).toThrow(expect.objectContaining({ code: 'corrupt' }) as Error)
  })
})

describe('checkpoints that are damaged', () => {
  it.each<[string, Buffer]>([
    ['short', Buffer.alloc(10)],
    ['another thing', Buffer.alloc(CHECKPOINTS_HEADER)],
    ['rows that are not there', Object.assign(Buffer.alloc(CHECKPOINTS_HEADER), { 0: 0 })],
  ])('%s: are refused', (_what, bytes) =>
    expect(() => checkpointRows(bytes)).toThrow(expect.objectContaining({ code: 'corrupt' }) as Error),
  )
})
