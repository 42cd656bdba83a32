import { randomBytes, randomUUID } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { Readable } from 'node:stream'
import { concat, file, ZEROS } from '@strata/archive/testing'
import { keys } from '@strata/store'
import { temporaryStore, withoutAbilities } from '@strata/store/testing'
import { expect, it } from 'vitest'
import { createIntake } from './index.js'
import { intakeSuite } from './testing/intake-suite.js'

intakeSuite('a folder', temporaryStore)
intakeSuite('a store without files', async () => {
  const { store, dispose } = await temporaryStore()
  return { store: withoutAbilities(store), dispose }
})

it('files of a folder are the bytes themselves, and read-only', async () => {
  const { store, dispose } = await temporaryStore()
  const intake = createIntake({ store })
  const [upload, large] = [randomUUID(), randomBytes(2_000_000)]
  await intake.receive(Readable.from([concat(file('a', 'x'), file('b', large), ZEROS)]), { upload })
  for (const name of ['small', '1', 'listing']) expect(statSync(store.localPath(keys.data(upload, name))).mode & 0o7777, name).toBe(0o444)
  expect(readFileSync(store.localPath(keys.data(upload, '1'))).equals(large)).toBe(true)
  await intake.close()
  await dispose()
})
