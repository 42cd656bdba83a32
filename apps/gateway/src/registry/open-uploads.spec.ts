import { expect, it } from 'vitest'
import { OpenUploads } from './open-uploads.js'

it('begins no more than so many uploads, and finds in the store those that others have ended', async () => {
  let now = 0
  let lists = 0
  const live = new Set<string>()
  const liveIds = (): Promise<Set<string>> => {
    lists++
    return Promise.resolve(new Set(live))
  }
  const open = new OpenUploads({ liveIds }, 3, () => now)
  const begin = (id: string): Promise<unknown> =>
    open.begin(() => {
      live.add(id)
      return Promise.resolve({ id, bytes: 0 })
    })
  const full = { code: 'overloaded' }

  await Promise.all(['a', 'b', 'c'].map(begin))
  expect(lists).toBe(0)
  await expect(begin('d')).rejects.toMatchObject(full)
  await expect(begin('d')).rejects.toMatchObject(full)
  expect([lists, live.has('d')]).toEqual([1, false])
  // Ended here.
  open.ended('a')
  live.delete('a')
  await begin('d')
  await expect(begin('e')).rejects.toMatchObject(full)
  // Expired, or ended by another gateway.
  live.delete('b')
  now += 1_000
  await begin('e')
  expect(lists).toBe(2)
  // One that could not be begun does not count.
  open.ended('e')
  await expect(open.begin(() => Promise.reject(new Error('no store')))).rejects.toThrow('no store')
  await begin('f')
  await expect(Promise.all(['g', 'h'].map(begin))).rejects.toMatchObject(full)
})
