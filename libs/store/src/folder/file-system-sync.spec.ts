import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { sharedSync } from './file-system-sync.js'

let root: string
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'strata-sync-'))
  for (const name of ['a', 'b', 'c']) mkdirSync(join(root, name))
  // Waits until it may end, and says for which folder it was started.
  mkdirSync(join(root, 'bin'))
  writeFileSync(
    join(root, 'bin/sync'),
    `#!/bin/sh\necho "$2" >>${root}/started\nuntil [ -e ${root}/go ]; do sleep 0.01; done\n[ -d "$2" ]\n`,
  )
  chmodSync(join(root, 'bin/sync'), 0o755)
  vi.stubEnv('PATH', `${join(root, 'bin')}:${process.env.PATH}`)
})
afterEach(() => {
  vi.unstubAllEnvs()
  rmSync(root, { recursive: true })
})
const started = () => {
  try {
    return readFileSync(join(root, 'started'), 'utf8').trim().split('\n')
  } catch {
    return []
  }
}

it('one sync runs at a time, and all who ask meanwhile share the next', async () => {
  const first = sharedSync(join(root, 'a'))
  await expect.poll(started).toEqual([join(root, 'a')])
  const others = [sharedSync(join(root, 'b')), sharedSync(join(root, 'c')), sharedSync(join(root, 'a'))]
  writeFileSync(join(root, 'go'), '')
  await Promise.all([first, ...others])
  expect(started()).toEqual([join(root, 'a'), join(root, 'b')])
  await sharedSync(join(root, 'c'))
  expect(started()).toHaveLength(3)
})

it('who shares with a folder that is gone syncs its own', async () => {
  const first = sharedSync(join(root, 'a'))
  await expect.poll(started).toHaveLength(1)
  const gone = sharedSync(join(root, 'b'))
  const other = sharedSync(join(root, 'c'))
  rmSync(join(root, 'b'), { recursive: true })
  writeFileSync(join(root, 'go'), '')
  await first
  await expect(gone).rejects.toThrow(`sync -f ${join(root, 'b')} ended with 1`)
  await other
  expect(started().at(-1)).toBe(join(root, 'c'))
})
