import { expect, it } from 'vitest'
import { PackedList } from './packed-list.js'

it('gives what was pushed, in its order, as often as it is read', () => {
  const list = new PackedList<{ n: number; text: string; later?: string }>()
  expect(list.isEmpty).toBe(true)
  expect([...list]).toEqual([])
  // Larger than what is packed together.
  const items = Array.from({ length: 20_000 }, (_, n) => ({ n, text: `a line\nand é another ${n}` }))
  for (const item of items) list.push(item)
  expect(list.isEmpty).toBe(false)
  expect([...list]).toEqual(items)
  expect([...list]).toEqual(items)
})
