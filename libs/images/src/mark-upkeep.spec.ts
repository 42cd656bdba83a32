import { digestOf, MEDIA, parseTagged } from '@strata/oci'
import { keys, listAll, type ObjectStore } from '@strata/store'
import { counted, temporaryStore } from '@strata/store/testing'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { MarkUpkeep } from './mark-upkeep.js'
import { Names } from './names.js'

const MANY = 12

describe('the upkeep of marks', () => {
  let store: ObjectStore
  let calls: ReturnType<typeof counted>['calls']
  let dispose: () => Promise<void>
  beforeEach(async () => {
    const temporary = await temporaryStore()
    ;({ store, calls } = counted(temporary.store))
    ;({ dispose } = temporary)
    const names = new Names(store)
    for (let n = 0; n < MANY; n++) {
      const { repository, tag } = parseTagged(`app:${n}`)
      const image = {
        id: digestOf(`config ${n}`),
        digest: digestOf(`manifest ${n}`),
        mediaType: MEDIA.manifest,
        manifestSize: 1,
        size: 1,
        layers: 1,
      }
      await names.write(keys.tag(repository, tag!), image, undefined)
    }
  })
  afterEach(() => dispose())

  const marks = async () => {
    const found: string[] = []
    for await (const { key } of listAll(store, 'image-names/')) found.push(key)
    return found
  }
  const tidy = async (atATime?: number) => {
    calls()
    await new MarkUpkeep(store, new Names(store), atATime).tidyMarks(() => Promise.resolve())
    return calls()
  }

  it('lists each mark and each name once', async () => {
    expect(await marks()).toHaveLength(2 * MANY)
    expect((await tidy())['listed']).toBe(3 * MANY)
  })

  it.each([1, 7, undefined])('deletes marks of no name, and no other, with %s compared at a time', async (atATime) => {
    const before = await marks()
    const lost = [1, 2, 3].map((n) => keys.idMark(digestOf(`config ${n}`), digestOf(`manifest ${n}`), `lost${n}`))
    const { repository, tag } = parseTagged('gone:1')
    const name = { repository, tag: tag!, digest: undefined }
    // Of a write that has died before its name was there, with both of its marks.
    lost.push(keys.nameMark(digestOf('manifest 4'), name, 'dead'))
    lost.push(keys.idMark(digestOf('config 4'), digestOf('manifest 4'), 'dead'))
    for (const key of lost) await store.create(key, Buffer.from('{}'))
    await tidy(atATime)
    expect(await marks()).toEqual(before)
  })
})
