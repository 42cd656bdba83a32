import { describe, expect, it } from 'vitest'
import { FIRST_VERSION, migrate, type Migration, type VersionedPlace } from './data-version.js'
import { StrataError } from './errors.js'

/** A place in memory that counts how often its lock was taken. */
function place(version?: number, write = (): void => undefined) {
  const state = { version, locked: 0 }
  const versioned: VersionedPlace = {
    what: 'the place',
    read: () => Promise.resolve(state.version),
    write: async (next) => {
      write()
      state.version = next
      return Promise.resolve()
    },
    exclusively: async (work) => {
      state.locked++
      await work()
    },
  }
  return { state, versioned }
}
const adding = (text: string, mayWait = false): Migration<string[]> => ({
  does: `adds ${text}`,
  mayWait,
  run: (data) => Promise.resolve(void data.push(text)),
})
const told: string[] = []
const tell = (message: string): void => void told.push(message)

describe('migrate', () => {
  it.each([
    ['without a note', undefined, ['a', 'b', 'c']],
    ['of the first version', FIRST_VERSION, ['a', 'b', 'c']],
    ['of a version between', 3, ['c']],
    ['of the newest version', 4, []],
  ])('runs what is missing, in order, and notes it: a place %s', async (_, version, expected) => {
    const { state, versioned } = place(version)
    const data: string[] = []
    await migrate(
      versioned,
      ['a', 'b', 'c'].map((text) => adding(text)),
      data,
      { tell },
    )
    expect({ data, version: state.version }).toEqual({ data: expected, version: 4 })
    const { locked } = state
    await migrate(
      versioned,
      ['a', 'b', 'c'].map((text) => adding(text)),
      data,
      { tell },
    )
    expect({ data, locked: state.locked }).toEqual({ data: expected, locked })
  })

  it('notes the first version where there are no migrations', async () => {
    const { state, versioned } = place()
    await migrate(versioned, [], undefined, { tell })
    expect(state.version).toBe(FIRST_VERSION)
  })

  it('goes on behind the last version that was reached', async () => {
    const { state, versioned } = place()
    const data: string[] = []
    let fails = true
    const failing: Migration<string[]> = {
      ...adding('b'),
      run: (list) => (fails ? Promise.reject(new Error('died')) : Promise.resolve(void list.push('b'))),
    }
    const all = [adding('a'), failing, adding('c')]
    await expect(migrate(versioned, all, data, { tell })).rejects.toThrow('died')
    expect(state.version).toBe(2)
    fails = false
    await migrate(versioned, all, data, { tell })
    expect({ data, version: state.version }).toEqual({ data: ['a', 'b', 'c'], version: 4 })
  })

  it('refuses newer data, says what to do, and changes nothing', async () => {
    const { state, versioned } = place(3)
    const data: string[] = []
    const error = await migrate(versioned, [adding('a')], data, { tell }).catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({
      code: 'data_newer',
      message: expect.stringMatching(/^the place has data of version 3, and .* knows version 2: start /) as string,
    })
    expect({ state, data }).toEqual({ state: { version: 3, locked: 0 }, data: [] })
  })

  it('looks again under the lock: another release may have been there meanwhile', async () => {
    const { state, versioned } = place(1)
    const late: VersionedPlace = {
      ...versioned,
      exclusively: (work) => {
        state.version = 9
        return work()
      },
    }
    await expect(migrate(late, [adding('a')], [], { tell })).rejects.toMatchObject({ code: 'data_newer' })
  })

  it.each([
    ['may wait', true],
    ['may not wait', false],
  ])('without space, a migration that %s', async (_, mayWait) => {
    const full = new StrataError('storage_full', 'no space')
    const { versioned } = place(undefined, () => {
      throw full
    })
    const work = migrate(versioned, [adding('a', mayWait)], [], { tell })
    await (mayWait ? expect(work).resolves.toBeUndefined() : expect(work).rejects.toBe(full))
  })
})
