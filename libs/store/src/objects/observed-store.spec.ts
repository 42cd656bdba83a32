import { StrataError } from '@strata/base'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { FolderStore } from '../folder/folder-store.js'
import { freshDataKey } from '../keys.js'
import { temporaryStore, withoutAbilities } from '../testing/temporary-store.js'
import { conditionalRemove, continuedPuts, localObjects, partialUploads, type ObjectStore } from './object-store.js'
import { observedStore } from './observed-store.js'

let plain: FolderStore
let dispose: () => Promise<void>
let store: ObjectStore
let told: string[]
const observed = (one: ObjectStore): ObjectStore =>
  observedStore(one, (operation, outcome, seconds) => {
    expect(seconds).toBeGreaterThanOrEqual(0)
    told.push(`${operation} ${outcome}`)
  })
beforeEach(async () => {
  ;({ store: plain, dispose } = await temporaryStore())
  told = []
  store = observed(plain)
})
afterEach(() => dispose())

const LEASE = '00000000-0000-4000-8000-000000000000'
const throwing = (error: Error): AsyncIterable<Uint8Array> => ({
  [Symbol.asyncIterator]: () => ({ next: () => Promise.reject(error) }),
})

it('tells each call once, with its outcome, and gives what the store gives', async () => {
  const key = freshDataKey(LEASE)
  await store.put(key, Buffer.from('some bytes'))
  expect((await store.read(key, 100))?.bytes.toString()).toBe('some bytes')
  expect(await store.stat(freshDataKey(LEASE))).toBeUndefined()
  expect((await store.list('data/')).objects).toHaveLength(1)
  await store.delete([key])
  expect(told).toEqual(['put ok', 'read ok', 'stat ok', 'list ok', 'delete ok'])
})

it.each([
  ['storage_full', new StrataError('storage_full', 'no room')],
  ['store_unavailable', new StrataError('store_unavailable', 'away')],
  ['cancelled', new StrataError('cancelled', 'left')],
  ['other', new StrataError('upload_interrupted', 'the client has gone')],
  ['other', new Error('anything')],
])('tells a failure as %s, and throws it as it is', async (outcome, error) => {
  await expect(store.put(freshDataKey(LEASE), throwing(error))).rejects.toBe(error)
  await expect(store.read('..', 1)).rejects.toMatchObject({ code: 'bad_request' })
  expect(told).toEqual([`put ${outcome}`, 'read other'])
})

it('has the abilities that the store has, and no others', async () => {
  expect(store).toBeInstanceOf(FolderStore)
  expect(localObjects(store)).toBe(store)
  expect(conditionalRemove(store)).toBe(store)
  expect([partialUploads(store), continuedPuts(store)]).toEqual([undefined, undefined])
  const key = freshDataKey(LEASE)
  expect(localObjects(store)?.localPath(key)).toBe(plain.localPath(key))
  await localObjects(store)?.createLocal(key)
  expect((await localObjects(store)?.sealLocal(key))?.size).toBe(0)
  expect(told).toEqual(['createLocal ok', 'sealLocal ok'])
  expect(localObjects(observed(withoutAbilities(plain)))).toBeUndefined()
})
