import { ENTRY, TarEntry, workShare } from '@strata/archive'
import { expect, it } from 'vitest'
import { IndexBuilder } from './index-builder.js'
import { GrowingMemory, IndexMemory } from './index-memory.js'

const MIB = 2 ** 20
/** What of so many mebibytes the work may have is a whole number of them. */
const memoryOf = (work: number): IndexMemory => new IndexMemory((work / 3) * 4 * MIB)

/** Which of the promises have settled, after all that can go on has gone on. */
async function settled(promises: readonly Promise<unknown>[]): Promise<boolean[]> {
  const done = promises.map(() => false)
  for (const [n, promise] of promises.entries()) {
    const settle = (): void => void (done[n] = true)
    promise.then(settle, settle)
  }
  await new Promise(setImmediate)
  return done
}

it('what does not fit waits, the first come first, and gets what others give back', async () => {
  const memory = memoryOf(12)
  const first = await memory.take(8 * MIB, 'it')
  const waiting = [memory.take(10 * MIB, 'it'), memory.take(MIB, 'it')]
  expect(await settled(waiting)).toEqual([false, false])
  first[Symbol.dispose]()
  first[Symbol.dispose]()
  expect(await settled(waiting)).toEqual([true, true])
  expect(memory.taken).toBe(11 * MIB)
  for (const lease of await Promise.all(waiting)) lease[Symbol.dispose]()
  expect(memory.taken).toBe(0)
})

it('more than there is is refused at once, also while nothing is free', async () => {
  const memory = memoryOf(12)
  await memory.take(memory.largest, 'it')
  const message =
    'the image x needs 13 MiB of memory for indexes; the limit is 12 MiB, three quarters of STRATA_INDEX_MEMORY'
  await expect(memory.take(12 * MIB + 1, 'the image x')).rejects.toMatchObject({ code: 'limit_exceeded', message })
})

it('who is cancelled leaves the line, and keeps nobody behind him waiting', async () => {
  const memory = memoryOf(12)
  const stop = new AbortController()
  await memory.take(8 * MIB, 'it')
  const large = memory.take(10 * MIB, 'it', stop.signal)
  const small = memory.take(MIB, 'it')
  expect(await settled([large, small])).toEqual([false, false])
  stop.abort()
  await expect(large).rejects.toMatchObject({ code: 'cancelled' })
  ;(await small)[Symbol.dispose]()
  expect(memory.taken).toBe(8 * MIB)
  await expect(memory.take(MIB, 'it', stop.signal)).rejects.toMatchObject({ code: 'cancelled' })
})

it('an index that grows never waits: it is told that there is no room, and gives back what it has', async () => {
  const memory = memoryOf(12)
  const lease = memory.grow()
  const growing = new GrowingMemory(lease.shared)
  expect([growing.reach(1), growing.reach(5 * MIB), memory.taken]).toEqual([true, true, 5 * MIB])
  await memory.take(6 * MIB, 'it')
  expect([growing.reach(6 * MIB), growing.reach(6 * MIB + 1), memory.taken]).toEqual([true, false, 12 * MIB])
  const waiting = memory.take(6 * MIB, 'it')
  expect(await settled([waiting])).toEqual([false])
  lease[Symbol.dispose]()
  ;(await waiting)[Symbol.dispose]()
  expect(memory.taken).toBe(6 * MIB)
})

it('uploads have a share of their own, which a thread that ended gives back', () => {
  const memory = new IndexMemory(16 * MIB)
  const lease = memory.uploads()
  const [one, other] = [new GrowingMemory(lease.shared), new GrowingMemory(memory.uploads().shared)]
  expect([one.reach(3 * MIB), other.reach(2 * MIB), other.reach(MIB)]).toEqual([true, false, true])
  expect([workShare(16 * MIB), memory.taken]).toEqual([12 * MIB, 0])
  other.release()
  lease[Symbol.dispose]()
  expect(new GrowingMemory(memory.uploads().shared).reach(4 * MIB)).toBe(true)
})

it('a builder counts what its index takes, and ends where there is no room', () => {
  const memory = memoryOf(3)
  const lease = memory.grow()
  const builder = new IndexBuilder({}, new GrowingMemory(lease.shared))
  const link = (n: number): TarEntry =>
    Object.assign(new TarEntry(), { path: Buffer.from(`${n}`), type: ENTRY.symlink, link: Buffer.alloc(4000, 'x') })
  const addAll = (): void => {
    for (let n = 0; n < 1000; n++) builder.entry(link(n))
  }
  expect(addAll).toThrow(expect.objectContaining({ code: 'overloaded' }) as Error)
  expect(memory.taken).toBe(3 * MIB)
  lease[Symbol.dispose]()
  expect(memory.taken).toBe(0)
})
