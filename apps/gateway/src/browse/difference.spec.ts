import { createServer, get } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setImmediate } from 'node:timers/promises'
import type { DiffView } from '@strata/api'
import { IndexBuilder, MergedTree, mergeLayers } from '@strata/layers'
import { ENTRY, TarEntry } from '@strata/archive'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { difference, MAX_PAGE_PATHS, PATHS_AT_ONCE } from './difference.js'

const here = new AbortController().signal

function treeOf(paths: readonly string[], mtime: number): MergedTree {
  const builder = new IndexBuilder()
  for (const path of paths) {
    builder.entry(Object.assign(new TarEntry(), { path: Buffer.from(path), type: ENTRY.file, mode: 0o600, mtime }))
    builder.entryEnd()
  }
  return mergeLayers([builder.finish(1024)])
}
const names = (count: number): string[] =>
  Array.from({ length: count }, (_, n) => `d${n % 7}/f${String(n).padStart(6, '0')}`)

/** All pages, and how often a name of a tree was looked at for each. */
async function pagesOf(
  before: MergedTree,
  after: MergedTree,
  limit: number,
): Promise<{ pages: DiffView[]; looks: number[] }> {
  const pages: DiffView[] = []
  const looks: number[] = []
  const spy = vi.spyOn(MergedTree.prototype, 'name')
  for (let cursor: string | undefined; pages.length === 0 || cursor !== undefined;) {
    spy.mockClear()
    const page = await difference(before, after, { after: cursor, limit }, here)
    pages.push(page)
    looks.push(spy.mock.calls.length)
    cursor = page.next
  }
  return { pages, looks }
}

afterEach(() => void vi.restoreAllMocks())

describe('the pages of a difference', () => {
  const [before, after] = [treeOf(names(20_000), 1), treeOf(names(20_000), 2)]

  it('are the whole in order, and only the first one has the sums', async () => {
    const whole = await difference(before, after, { limit: 100_000 }, here)
    expect(whole).toMatchObject({ changed: { count: 20_000 }, added: { count: 0 } })
    expect(whole.next).toBeUndefined()
    const { pages } = await pagesOf(before, after, 1_999)
    expect(pages).toHaveLength(11)
    expect(pages.flatMap(({ changes }) => changes)).toEqual(whole.changes)
    expect(pages[0]).toMatchObject({ changed: whole.changed })
    for (const page of pages.slice(1)) expect(Object.keys(page)).not.toContain('changed')
  })

  it('cost the same at every place', async () => {
    const { looks } = await pagesOf(before, after, 1_000)
    const [, second, ...others] = looks
    expect(others).toHaveLength(18)
    for (const count of others) expect(count).toBeLessThan(2 * second!)
  })

  it('end early where paths are very long, and are the whole all the same', async () => {
    const deep = `${'x'.repeat(200)}/`.repeat(19)
    const { pages } = await pagesOf(
      treeOf([], 1),
      treeOf(
        Array.from({ length: 3_000 }, (_, n) => `${deep}${n}`),
        1,
      ),
      10_000,
    )
    const bytes = pages.map(({ changes }) => changes.reduce((sum, { path }) => sum + path.length, 0))
    expect(Math.max(...bytes)).toBeLessThan(MAX_PAGE_PATHS + 4_096)
    expect(pages.reduce((sum, { changes }) => sum + changes.length, 0)).toBe(3_000 + 19)
  })

  it('a cursor that is none is refused', async () => {
    await expect(difference(before, after, { after: 'x', limit: 1 }, here)).rejects.toMatchObject({
      code: 'bad_request',
    })
  })
})

describe('while a difference is made', () => {
  // Nothing differs, so that the walk goes through all without a change to stop at.
  const same = names(20_000)
  const [before, after] = [treeOf(same, 1), treeOf(same, 1)]

  it('the event loop has its turn after a bounded count of paths', async () => {
    const looks = vi.spyOn(MergedTree.prototype, 'name')
    const state = { isDone: false }
    const made = difference(before, after, { limit: 1 }, here).finally(() => (state.isDone = true))
    let most = 0
    for (let last = 0; !state.isDone;) {
      most = Math.max(most, looks.mock.calls.length - last)
      last = looks.mock.calls.length
      await setImmediate()
    }
    await made
    // Each path is looked at in both trees.
    expect(most).toBeLessThanOrEqual(2 * PATHS_AT_ONCE)
  })

  it('another request is answered', async () => {
    const server = createServer((_request, response) => response.end()).listen(0, '127.0.0.1')
    await new Promise((resolve) => server.once('listening', resolve))
    const state = { isAnswered: false }
    get({ port: (server.address() as AddressInfo).port, agent: false }, (answer) => {
      answer.resume()
      state.isAnswered = true
    })
    // Without a turn for others this would go on for ever; so it gives up.
    for (let round = 0; round < 200 && !state.isAnswered; round++) await difference(before, after, { limit: 1 }, here)
    expect(state.isAnswered).toBe(true)
    await new Promise((resolve) => server.close(resolve))
  })

  it('it ends when the client has left', async () => {
    const gone = new AbortController()
    const made = difference(before, after, { limit: 1 }, gone.signal)
    gone.abort()
    await expect(made).rejects.toMatchObject({ code: 'cancelled' })
  })
})
