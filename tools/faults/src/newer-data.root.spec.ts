import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { StrataUnderTest } from '@strata/e2e/testing'
import { openStore, storeConfigShape } from '@strata/store'
import { TestS3 } from '@strata/store/testing'
import { Redis } from 'ioredis'
import { expect, it } from 'vitest'
import { z } from 'zod'
import { onEachStore, triesAll } from './testing/each-store.js'

const NEWER = '999\n'

onEachStore('on %s', (kind) => {
  const begin = async (prepare: (data: string, s3: TestS3 | undefined) => Promise<void> | void): Promise<unknown> => {
    const s3 = kind === 'folder' ? undefined : await TestS3.start('minio', '/var/tmp')
    try {
      const strata = await StrataUnderTest.start({
        topology: 'standalone',
        store: s3 ?? 'folder',
        prepare: async (data) => prepare(data, s3),
      })
      await strata.dispose()
      return undefined
    } catch (error) {
      return error
    } finally {
      await s3?.remove()
    }
  }
  const noted = (folder: string): void => {
    mkdirSync(folder, { recursive: true })
    writeFileSync(join(folder, 'version'), NEWER)
  }
  const told = (what: RegExp): unknown =>
    expect.objectContaining({
      message: expect.stringMatching(
        new RegExp(
          `strata: ${what.source} has data of version 999, and this release of Strata knows version \\d+: start the release`,
        ),
      ) as string,
    })

  it('a newer store stops the start, and says which', async () => {
    const error = await begin(async (data, s3) => {
      if (!s3) return noted(join(data, 'store'))
      const store = await openStore(z.object(storeConfigShape).parse(s3.environment()))
      await store.delete(['version'])
      await store.put('version', Buffer.from(JSON.stringify({ rev: 'x', value: { version: 999 } })))
      await store.close()
    })
    expect(error).toEqual(told(kind === 'folder' ? /the store \S+\/store/ : /the bucket strata-\S+ of http:\S+/))
  })

  if (!triesAll(kind)) return

  it('a newer data folder stops the start, and says which', async () => {
    expect(await begin((data) => noted(data))).toEqual(told(/the data folder \S+\/data/))
  })

  it('a newer node folder stops the start, and says which', async () => {
    expect(await begin((data) => noted(join(data, 'node')))).toEqual(told(/the node folder \S+\/node/))
  })
})

it('newer data in Redis stop the start, and a service that runs', { timeout: 300_000 }, async () => {
  const strata = await StrataUnderTest.start({ topology: 'standalone', store: 'folder' })
  try {
    const redis = new Redis({ path: strata.redisSocket })
    expect(await redis.get('strata:version')).toBe('3')
    expect(readFileSync(join(strata.data, 'node', 'version'), 'utf8')).toBe('2\n')
    expect(readFileSync(join(strata.data, 'store', 'version'), 'utf8')).toBe('5\n')
    await redis.set('strata:version', '999')
    // It looks each time it is connected.
    const clients = (await redis.client('LIST')) as string
    for (const id of clients.matchAll(/^id=(\d+) /gm))
      if (id[1] !== String(await redis.client('ID'))) await redis.client('KILL', 'ID', id[1]!)
    redis.disconnect()
    const message =
      /strata: Redis has data of version 999, and this release of Strata knows version 3: start the release/
    await expect.poll(() => strata.log, { timeout: 60_000 }).toMatch(message)
    await strata.stop('SIGKILL')
    await expect(strata.startProcesses()).rejects.toThrow(message)
  } finally {
    rmSync(join(strata.data, 'version'), { force: true })
    await strata.remove()
  }
})
