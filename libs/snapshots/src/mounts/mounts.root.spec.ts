import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { makePrivateMount, MNT_DETACH, mountAt, umount } from '@strata/linux'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { mountAll, unmountAll, type Mount } from './mounts.js'

/**
 * Should what is tested keep our thread until the disk takes something again, nobody here could see
 * to that.
 */
const RESCUE_S = 60

/**
 * A disk in a file of another disk; with that one frozen, what is written here waits, and so does
 * whoever wants it on disk.
 */
let folder: string
let [outer, inner, target] = ['', '', '']
beforeEach(() => {
  folder = makePrivateMount(mkdtempSync('/var/tmp/strata-mounts-'))
  ;[outer, inner, target] = ['outer', 'inner', 'target'].map((name) => join(folder, name)) as [string, string, string]
  makeDisk(join(folder, 'outer.ext4'), outer, 64)
  makeDisk(join(outer, 'inner.ext4'), inner, 32)
  for (const name of ['lower', 'upper', 'work']) mkdirSync(join(inner, name))
})
afterEach(() => {
  for (const path of [inner, outer, folder]) umount(path, MNT_DETACH)
  rmSync(folder, { recursive: true })
})

function makeDisk(file: string, at: string, megabytes: number): void {
  writeFileSync(file, '')
  truncateSync(file, megabytes * 1024 * 1024)
  execFileSync('mkfs.ext4', ['-q', '-E', 'lazy_itable_init=0,lazy_journal_init=0', file])
  mkdirSync(at)
  execFileSync('mount', ['-o', 'loop', file, at])
}

async function someTurns(): Promise<void> {
  for (let turn = 0; turn < 3; turn++) await setImmediate()
}

/**
 * What `work` does about a disk that takes nothing for now: ends all the same, waits and lets
 * others go on meanwhile, or keeps the thread until the rescue.
 */
async function beforeFrozenDisk(work: () => Promise<void>): Promise<'ends' | 'waits' | 'keeps the thread'> {
  execFileSync('fsfreeze', ['--freeze', outer])
  const rescued = join(folder, 'rescued')
  const rescue = spawn('sh', ['-c', `sleep ${RESCUE_S}; : > "$1"; fsfreeze --unfreeze "$2"`, 'sh', rescued, outer], {
    stdio: 'ignore',
    detached: true,
  })
  const end = work()
  const first = await Promise.race([end.then(() => 'ends' as const), someTurns().then(() => 'waits' as const)])
  const found = existsSync(rescued) ? 'keeps the thread' : first
  process.kill(-rescue.pid!, 'SIGKILL')
  if (!existsSync(rescued)) execFileSync('fsfreeze', ['--unfreeze', outer])
  await end
  return found
}

const writable = (...more: string[]): Mount[] => [
  {
    type: 'overlay',
    source: 'overlay',
    options: [`lowerdir+=${inner}/lower`, `upperdir=${inner}/upper`, `workdir=${inner}/work`, ...more],
  },
]

describe('the end of a writable mount, on a disk that is busy', () => {
  it('is waited for outside of our thread', async () => {
    mountAll(writable(), target)
    writeFileSync(join(target, 'file'), Buffer.alloc(1024 * 1024, 1))
    expect(await beforeFrozenDisk(() => unmountAll(target))).toBe('waits')
    expect(mountAt(target)).toBeUndefined()
  })

  it('does not wait where nothing has to reach the disk', async () => {
    mountAll(writable('volatile'), target)
    writeFileSync(join(target, 'file'), Buffer.alloc(1024 * 1024, 1))
    expect(await beforeFrozenDisk(() => unmountAll(target))).toBe('ends')
    expect(mountAt(target)).toBeUndefined()
  })
})
