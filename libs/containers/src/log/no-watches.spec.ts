import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it, vi } from 'vitest'
import { ContainerLog } from './container-log.js'

vi.mock('node:fs', async (original) => ({
  ...(await original<typeof import('node:fs')>()),
  watch: () => {
    throw Object.assign(new Error('EMFILE: too many open files, watch'), { code: 'EMFILE' })
  },
}))

it('a log is kept, without a word, where the machine has no watch left for it', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'strata-log-'))
  const warnings: string[] = []
  const limits = { maxBytes: 10, generations: 3, heldBytes: 100, unattendedBytes: 1_000 }
  const log = new ContainerLog(folder, limits, (message) => warnings.push(message))
  try {
    writeFileSync(log.path, 'short')
    log.keep('/nowhere')
    for (const number of [0, 1]) {
      writeFileSync(log.path, 'longer than ten')
      await expect.poll(() => existsSync(join(folder, `${number}`)), { timeout: 10_000 }).toBe(true)
    }
    expect(warnings).toEqual([])
  } finally {
    log.stopKeeping()
    rmSync(folder, { recursive: true })
  }
})
