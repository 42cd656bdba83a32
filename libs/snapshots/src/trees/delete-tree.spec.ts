import { createHook } from 'node:async_hooks'
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { deleteTree } from './delete-tree.js'

const MANY = 100_000
const A_FEW = 10

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'strata-delete-tree-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

function tree(name: string, files: number): string {
  const path = join(folder, name)
  mkdirSync(join(path, 'upper', 'below'), { recursive: true })
  for (let i = 0; i < files; i++) writeFileSync(join(path, 'upper', 'below', String(i)), '')
  return path
}

/** What this thread begins while `work` goes on: requests to the file system, and threads. */
async function begun(work: () => Promise<unknown>): Promise<{ requests: number; threads: number }> {
  const count = { requests: 0, threads: 0 }
  const hook = createHook({
    init(_, type) {
      if (type.startsWith('FSREQ')) count.requests++
      if (type === 'WORKER') count.threads++
    },
  }).enable()
  try {
    await work()
  } finally {
    hook.disable()
  }
  return count
}

it('removes a tree of few entries without a thread', async () => {
  const path = tree('few', A_FEW)
  symlinkSync('/', join(path, 'link'))
  const { threads } = await begun(() => deleteTree(path))
  expect(threads).toBe(0)
  expect(existsSync(path)).toBe(false)
})

it(
  'removes a tree of 100,000 files with few requests and little memory of this thread',
  { timeout: 600_000 },
  async () => {
    const path = tree('many', MANY)
    const before = process.resourceUsage().maxRSS
    const { requests } = await begun(() => deleteTree(path))
    expect(existsSync(path)).toBe(false)
    expect(requests).toBeLessThan(100)
    expect(process.resourceUsage().maxRSS - before).toBeLessThan(128 * 1024)
  },
)

it('removes many large trees with one thread', async () => {
  const paths = Array.from({ length: 8 }, (_, i) => tree(`large-${i}`, 200))
  const { threads } = await begun(() => Promise.all(paths.map((path) => deleteTree(path))))
  expect(threads).toBeLessThanOrEqual(1)
  expect(paths.filter((path) => existsSync(path))).toEqual([])
})

it('does not keep a tree of some hundred files waiting for one of many thousand', async () => {
  const [large, small] = [tree('thousands', 20_000), tree('hundreds', 200)]
  const order: string[] = []
  await Promise.all([
    deleteTree(large).then(() => order.push('thousands')),
    deleteTree(small).then(() => order.push('hundreds')),
  ])
  expect(order).toEqual(['hundreds', 'thousands'])
})

it('goes on after a tree that cannot be removed', async () => {
  const missing = join(folder, 'missing')
  const path = tree('after', 200)
  const results = await Promise.allSettled([deleteTree(missing), deleteTree(path)])
  expect(results.map(({ status }) => status)).toEqual(['rejected', 'fulfilled'])
  expect(existsSync(path)).toBe(false)
})

it('removes a file', async () => {
  const path = join(folder, 'file')
  writeFileSync(path, '')
  await deleteTree(path)
  expect(existsSync(path)).toBe(false)
})

it('removes few entries whose names are no UTF-8, or whose paths are long', async () => {
  const path = tree('bytes', 1)
  mkdirSync(Buffer.concat([Buffer.from(`${path}/`), Buffer.from([0xff, 0xfe])]))
  await deleteTree(path)
  expect(existsSync(path)).toBe(false)
})
