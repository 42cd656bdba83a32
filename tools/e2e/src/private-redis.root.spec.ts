import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { PrivateRedis } from '@strata/standalone'
import { Redis } from 'ioredis'
import { afterEach, beforeEach, expect, it } from 'vitest'

let folder: string
beforeEach(() => {
  folder = mkdtempSync('/var/tmp/strata-redis-')
})
afterEach(() => rmSync(folder, { recursive: true }))

async function withClient<T>(work: (client: Redis) => Promise<T>): Promise<T> {
  const client = new Redis({ path: join(folder, 'redis.sock') })
  try {
    return await work(client)
  } finally {
    client.disconnect()
  }
}
const kept = (suffix: string): string => {
  const name = readdirSync(join(folder, 'appendonlydir')).find((one) => one.endsWith(suffix))
  return join(folder, 'appendonlydir', name!)
}
const half = (path: string): void => truncateSync(path, Math.floor(readFileSync(path).length / 2))
const asFolder = (path: string): void => (rmSync(path, { recursive: true, force: true }), mkdirSync(path))

/** What lies there, and whether Redis knows what it was told before. */
const DAMAGE: readonly (readonly [string, () => void, boolean])[] = [
  ['a list of files that is empty', () => truncateSync(kept('.manifest'), 0), false],
  ['a list of files that is garbage', () => writeFileSync(kept('.manifest'), 'garbage\n'), false],
  [
    'a list of files that is cut off',
    () => truncateSync(kept('.manifest'), readFileSync(kept('.manifest')).length - 3),
    false,
  ],
  ['a folder for the list of files', () => asFolder(kept('.manifest')), false],
  ['a file that is missing', () => rmSync(kept('.incr.aof')), false],
  ['zeros', () => writeFileSync(kept('.incr.aof'), Buffer.alloc(4096)), false],
  ['a folder for a file', () => asFolder(kept('.incr.aof')), false],
  ['half a base', () => half(kept('.base.rdb')), false],
  ['a base that is garbage', () => writeFileSync(kept('.base.rdb'), 'garbage'), false],
  ['a folder for the base', () => asFolder(kept('.base.rdb')), false],
  [
    'a file for the folder',
    () => (
      rmSync(join(folder, 'appendonlydir'), { recursive: true }),
      writeFileSync(join(folder, 'appendonlydir'), '')
    ),
    false,
  ],
  [
    'a link to nowhere for the folder',
    () => (
      rmSync(join(folder, 'appendonlydir'), { recursive: true }),
      symlinkSync('/nowhere', join(folder, 'appendonlydir'))
    ),
    false,
  ],
  ['a folder for the lock', () => asFolder(join(folder, 'lock')), true],
  ['a folder for the log', () => asFolder(join(folder, 'redis.log')), true],
  [
    'a link to nowhere for the log',
    () => (rmSync(join(folder, 'redis.log')), symlinkSync('/nowhere/x', join(folder, 'redis.log'))),
    true,
  ],
  ['a folder for the socket', () => asFolder(join(folder, 'redis.sock')), true],
  ['garbage for the socket', () => writeFileSync(join(folder, 'redis.sock'), 'x'), true],
]

it.each(DAMAGE)('the private Redis starts with %s', async (_, damage, knows) => {
  const before = await PrivateRedis.start(folder)
  await withClient(async (client) => {
    await client.set('before', '1')
    await client.bgrewriteaof()
    await expect
      .poll(async () => /aof_rewrite_in_progress:0/.test(await client.info('persistence')) && kept('.base.rdb'))
      .toBeTruthy()
    await client.set('after', '2')
  })
  await before.stop()
  damage()

  const next = await PrivateRedis.start(folder)
  try {
    expect(await withClient(async (client) => [await client.get('before'), await client.get('after')])).toEqual(
      knows ? ['1', '2'] : [null, null],
    )
    expect(await withClient((client) => client.set('now', '3'))).toBe('OK')
    if (!knows)
      expect(readdirSync(folder).filter((name) => name.startsWith('appendonlydir.unreadable-'))).toHaveLength(1)
  } finally {
    await next.stop()
  }
  // What it is told from then on it keeps.
  const last = await PrivateRedis.start(folder)
  expect(await withClient((client) => client.get('now'))).toBe('3')
  await last.stop()
})
