import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { BucketVersion } from './bucket-version.js'
import { keys } from '../keys.js'
import type { ObjectStore } from './object-store.js'
import { tombstone } from '../records.js'
import { temporaryStore, withoutAbilities } from '../testing/temporary-store.js'

let store: ObjectStore
let dispose: () => Promise<void>
beforeEach(async () => {
  const temporary = await temporaryStore()
  // As a bucket has it: records that are gone leave tombstones.
  store = withoutAbilities(temporary.store)
  dispose = temporary.dispose
})
afterEach(() => dispose())
const version = (silenceMs?: number): BucketVersion =>
  new BucketVersion('the bucket', store, silenceMs === undefined ? {} : { silenceMs })

describe('the version of a bucket', () => {
  it('is none, then what was noted; it is never lowered', async () => {
    expect(await version().read()).toBeUndefined()
    await version().write(2)
    await version().write(3)
    await version().write(2)
    expect(await version().read()).toBe(3)
  })

  it.each(['', 'garbage', '{"rev":"x","value":{"version":"3"}}', '{"rev":"x","value":{"version":0}}'])(
    'is not guessed from %j',
    async (text) => {
      await store.create(keys.version, Buffer.from(text))
      await expect(version().read()).rejects.toMatchObject({
        code: 'corrupt',
        message: expect.stringContaining('delete the object version') as string,
      })
    },
  )

  it('is changed by one at a time, and the lock is free afterwards', async () => {
    let inside = 0
    const most: number[] = []
    const turn = (): Promise<void> =>
      version().exclusively(async () => {
        most.push(++inside)
        await new Promise((resolve) => setImmediate(resolve))
        inside--
      })
    await Promise.all([turn(), turn(), turn()])
    expect(most).toEqual([1, 1, 1])
    expect((await store.stat(keys.migrating))?.size).toBe(tombstone().length)
  })

  it('frees the lock when the work fails', async () => {
    await expect(version().exclusively(() => Promise.reject(new Error('failed')))).rejects.toThrow('failed')
    await expect(version().exclusively(() => Promise.resolve())).resolves.toBeUndefined()
  })

  it.each(['{"rev":"x","value":{"owner":"one that died","beat":7}}', 'garbage'])(
    'is taken over from an owner that is silent: %s',
    async (text) => {
      await store.create(keys.migrating, Buffer.from(text))
      let worked = false
      await version(300).exclusively(() => Promise.resolve(void (worked = true)))
      expect(worked).toBe(true)
    },
  )
})
