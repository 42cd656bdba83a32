import { randomBytes, randomUUID } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { Readable } from 'node:stream'
import { concat, file, ZEROS } from '@strata/archive/testing'
import { keys, type ObjectStore } from '@strata/store'
import { S3Store, temporaryStore, TestS3, whyNoTestS3, withoutAbilities } from '@strata/store/testing'
import { describe, expect, it, vi } from 'vitest'
import { createIntake } from './index.js'
import { intakeSuite } from './testing/intake-suite.js'

intakeSuite('a folder', temporaryStore)
intakeSuite('a store without files', async () => {
  const { store, dispose } = await temporaryStore()
  return { store: withoutAbilities(store), dispose }
})

const why = whyNoTestS3('minio')
if (why === undefined) intakeSuite('MinIO', minio)
else describe('an intake into MinIO', () => it('keeps its promises', (context) => context.skip(why)))

async function minio(): Promise<{ store: ObjectStore; dispose: () => Promise<void> }> {
  const s3 = await TestS3.start()
  const store = await S3Store.open(s3)
  const dispose = async (): Promise<void> => {
    // One that is given up is ended beside the answer.
    const noneIsPartial = async () => {
      const partial: string[] = []
      for await (const { key } of store.listPartial()) partial.push(key)
      expect(partial).toEqual([])
    }
    await vi.waitFor(noneIsPartial, { timeout: 30_000, interval: 100 })
    await store.close()
    await s3.remove()
  }
  return { store, dispose }
}

it('files of a folder are the bytes themselves, and read-only', async () => {
  const { store, dispose } = await temporaryStore()
  const intake = createIntake({ store })
  const [upload, large] = [randomUUID(), randomBytes(2_000_000)]
  await intake.receive(Readable.from([concat(file('a', 'x'), file('b', large), ZEROS)]), { upload })
  for (const name of ['small', '1', 'listing'])
    expect(statSync(store.localPath(keys.data(upload, name))).mode & 0o7777, name).toBe(0o444)
  expect(readFileSync(store.localPath(keys.data(upload, '1'))).equals(large)).toBe(true)
  await intake.close()
  await dispose()
})

// The session counts entries, before any store: so one store is enough for a gigabyte of them.
it('more entries than an archive may have are refused, and nothing of them is left', async () => {
  const { store, dispose } = await temporaryStore()
  const intake = createIntake({ store })
  const thousand = Buffer.concat(Array<Buffer>(1_000).fill(file('a', 'x')))
  const upload = randomUUID()
  const received = intake.receive(Readable.from(Array<Buffer>(1_000).fill(thousand)), { upload })
  await expect(received).rejects.toMatchObject({ code: 'limit_exceeded' })
  expect((await store.list(keys.dataOf(upload))).objects).toEqual([])
  await intake.close()
  await dispose()
})
