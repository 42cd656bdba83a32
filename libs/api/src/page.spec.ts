import { expect, it } from 'vitest'
import { firstPage, mergePages, PAGE_BYTES, type Page } from './page.js'

interface Item {
  readonly id: string
  readonly text: string
}
const idOf = ({ id }: Item): string => id
const items = (ids: string, text = ''): Item[] => ids.split('').map((id) => ({ id, text }))
const textOf = (page: Page<Item>): string => page.items.map(idOf).join('')

it('a page has at most its limit, and takes one item more to see whether more may follow', async () => {
  let taken = 0
  function* counted(): Generator<Item> {
    for (const item of items('abcdef')) {
      taken++
      yield item
    }
  }
  const page = await firstPage(counted(), 2, idOf)
  expect([textOf(page), page.next, taken]).toEqual(['ab', 'b', 3])
  expect(await firstPage(items('ab'), 2, idOf)).toEqual({ items: items('ab') })
  expect(await firstPage([], 2, idOf)).toEqual({ items: [] })
})

it('a page ends before its items have too many bytes; one alone may have more', async () => {
  const half = 'x'.repeat(PAGE_BYTES / 2 - 100)
  const page = await firstPage(items('abc', half), 10, idOf)
  expect([textOf(page), page.next]).toEqual(['ab', 'b'])
  const large = await firstPage(items('ab', half.repeat(3)), 10, idOf)
  expect([textOf(large), large.next]).toEqual(['a', 'a'])
})

it('a merged list has every item in exactly one page, however it is cut, and whatever some lists leave out', async () => {
  const random = seeded(1)
  for (let round = 0; round < 200; round++) {
    const all = Array.from({ length: Math.floor(random() * 40) }, (_, i) => String(i).padStart(3, '0'))
    const lists: Item[][] = Array.from({ length: 1 + Math.floor(random() * 5) }, () => [])
    for (const id of all) lists[Math.floor(random() * lists.length)]!.push({ id, text: '' })
    const limit = 1 + Math.floor(random() * 8)
    const told: string[] = []
    let after: string | undefined
    do {
      let page: Page<Item> = { items: [] }
      for (const list of lists) {
        const rest = list.filter(({ id }) => after === undefined || id > after)
        // Some lists give fewer, even none: then they say how far they have looked.
        const own = await firstPage(rest, 1 + Math.floor(random() * limit), idOf)
        const before = String(Number(own.items[0]?.id) - 1).padStart(3, '0')
        const isEmpty = random() < 0.2 && own.items.length > 0 && before > (after ?? '')
        page = await mergePages([page, isEmpty ? { items: [], next: before } : own], limit, idOf)
      }
      expect(page.items.length).toBeLessThanOrEqual(limit)
      told.push(...page.items.map(idOf))
      expect(after === undefined || page.next === undefined || page.next > after).toBe(true)
      after = page.next
    } while (after !== undefined)
    expect(told).toEqual(all)
  }
})

/** The same numbers each time (mulberry32). */
function seeded(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let value = Math.imul(state ^ (state >>> 15), 1 | state)
    value = (value + Math.imul(value ^ (value >>> 7), 61 | value)) ^ value
    return ((value ^ (value >>> 14)) >>> 0) / 4_294_967_296
  }
}
