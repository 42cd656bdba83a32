import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { digestOf, type ChainId, type DiffId } from '@strata/oci'
import { afterAll, expect, it } from 'vitest'
import type { tasks as erofsTasks } from '../drivers/erofs/tasks.js'
import type { tasks as treeTasks } from '../trees/tasks.js'
import { threadFor } from './run-worker.js'

const folder = mkdtempSync(join(tmpdir(), 'strata-run-worker-'))
afterAll(() => rmSync(folder, { recursive: true }))

const MIB = 1024 * 1024

it('what a large task took does not stay in the process', async () => {
  const digest = digestOf('x') as string
  const index = join(folder, 'index')
  writeFileSync(index, '')
  truncateSync(index, 512 * MIB)
  const [trees, erofs] = [threadFor<typeof treeTasks>('trees'), threadFor<typeof erofsTasks>('erofs')]
  await trees('usage', folder)
  const before = process.memoryUsage.rss()
  // The index is read whole before it is found to be none.
  const layers = [{ diffId: digest as DiffId, tar: join(folder, 'tar'), index }]
  const large = erofs('root', { layers, chainId: digest as ChainId, folder: join(folder, 'made') })
  await expect(large).rejects.toMatchObject({ code: 'corrupt' })
  await expect.poll(() => process.memoryUsage.rss() - before).toBeLessThan(256 * MIB)
  expect(await trees('usage', folder)).toMatchObject({ bytes: expect.any(Number) as number })
})
