import { digestOf, type Digest } from '@strata/oci'
import { expect, it, vi } from 'vitest'
import { AnswerMemory, type HeldBytes } from './answer-memory.js'

const KIB = 1024
const manifest = (of: string, size = 100 * KIB): { digest: Digest; bytes: Buffer } => {
  const bytes = Buffer.alloc(size, of)
  return { digest: digestOf(bytes), bytes }
}
const [a, b, c] = [manifest('a'), manifest('b'), manifest('c')]
/** As if the store were asked. */
const reader = ({ bytes }: { bytes: Buffer }) => vi.fn(() => Promise.resolve(bytes))
const hold = (memory: AnswerMemory, of: { digest: Digest; bytes: Buffer }, read = reader(of)) =>
  memory.manifest(of.digest, of.bytes.length, read)

it('reads a manifest once, for all that ask at the same time and later', async () => {
  const looks: boolean[] = []
  const memory = new AnswerMemory(1_000 * KIB, (isHit) => looks.push(isHit))
  const read = reader(a)
  const held = await Promise.all([hold(memory, a, read), hold(memory, a, read)])
  for (const { bytes, release } of held) {
    expect(bytes).toBe(held[0].bytes)
    expect(bytes.equals(a.bytes)).toBe(true)
    release()
  }
  ;(await hold(memory, a, read)).release()
  expect(read).toHaveBeenCalledTimes(1)
  expect(looks).toEqual([false, true, true])
})

it('refuses what does not fit beside those that are being sent, and takes it when one is done', async () => {
  const memory = new AnswerMemory(250 * KIB)
  const [first, second] = [await hold(memory, a), await hold(memory, b)]
  // One more client of the same takes no more memory.
  const again = await hold(memory, a)
  const read = reader(c)
  await expect(hold(memory, c, read)).rejects.toMatchObject({ code: 'overloaded' })
  expect(read).not.toHaveBeenCalled()
  first.release()
  first.release()
  await expect(hold(memory, c)).rejects.toMatchObject({ code: 'overloaded' })
  again.release()
  expect((await hold(memory, c)).bytes.equals(c.bytes)).toBe(true)
  second.release()
})

it('counts what is no manifest with them', async () => {
  const memory = new AnswerMemory(250 * KIB)
  ;(await hold(memory, a)).release()
  const own = (bytes: number) => memory.page(0, () => Promise.resolve(Buffer.alloc(bytes)))
  const pages = [await own(100 * KIB), await own(150 * KIB)]
  await expect(hold(memory, a)).rejects.toMatchObject({ code: 'overloaded' })
  await expect(own(1)).rejects.toThrow(/this page has no room/)
  pages[1]!.release()
  pages[1]!.release()
  ;(await hold(memory, a)).release()
  await expect(own(151 * KIB)).rejects.toThrow()
})

it('counts a page before it is made', async () => {
  const memory = new AnswerMemory(250 * KIB)
  const build = vi.fn(() => Promise.resolve(Buffer.alloc(10)))
  const made = Promise.withResolvers<Buffer>()
  const page = memory.page(150 * KIB, (count) => {
    count(50 * KIB)
    return made.promise
  })
  await expect(memory.page(51 * KIB, build)).rejects.toMatchObject({ code: 'overloaded' })
  expect(build).not.toHaveBeenCalled()
  const tooMuch = memory.page(10 * KIB, (count) => {
    for (let at = 0; at < 5; at++) count(10 * KIB)
    return build()
  })
  await expect(tooMuch).rejects.toMatchObject({ code: 'overloaded' })
  await expect(memory.page(50 * KIB, () => Promise.reject(new Error('away')))).rejects.toThrow('away')
  made.resolve(Buffer.alloc(10))
  const { release } = await page
  // It has what it takes, and no more.
  ;(await memory.page(249 * KIB, build)).release()
  release()
  ;(await memory.page(250 * KIB, build)).release()
})

it('breaks off what is sent for more than 10 s, the oldest first, where another has no room', async () => {
  let now = 0
  const memory = new AnswerMemory(260 * KIB, undefined, () => now)
  const cuts: string[] = []
  const send = async (name: string, held: HeldBytes | Promise<HeldBytes>): Promise<void> => {
    const { onCut, release } = await held
    onCut(() => {
      cuts.push(name)
      release()
    })
  }
  await send('page', await memory.page(0, () => Promise.resolve(Buffer.alloc(50 * KIB))))
  now = 1_000
  await send('a', hold(memory, a))
  now = 9_000
  await send('b', hold(memory, b))
  await send('a too', hold(memory, a))
  now = 10_000
  // The page alone does not make the room, so it stays.
  await expect(hold(memory, c)).rejects.toMatchObject({ code: 'overloaded' })
  expect(cuts).toEqual([])
  now = 11_000
  await send('c', hold(memory, c))
  expect(cuts).toEqual(['page', 'a', 'a too'])
  // b and c, and what is left of 260 KiB.
  await expect(memory.page(60 * KIB, () => Promise.resolve(Buffer.alloc(0)))).rejects.toThrow()
  await memory.page(0, () => Promise.resolve(Buffer.alloc(50 * KIB)))
  now = 18_999
  await expect(hold(memory, a)).rejects.toMatchObject({ code: 'overloaded' })
  now = 19_000
  await send('a again', hold(memory, a))
  expect(cuts).toEqual(['page', 'a', 'a too', 'b'])
})

it('forgets what was used longest ago', async () => {
  const memory = new AnswerMemory(250 * KIB)
  for (const one of [a, b, a, c]) (await hold(memory, one)).release()
  const reads = [reader(a), reader(b)] as const
  ;(await hold(memory, a, reads[0])).release()
  ;(await hold(memory, b, reads[1])).release()
  expect(reads.map((read) => read.mock.calls.length)).toEqual([0, 1])
})

it('keeps nothing of what could not be read, nor of what has another size', async () => {
  const memory = new AnswerMemory(150 * KIB)
  for (let attempt = 0; attempt < 3; attempt++) {
    await expect(
      hold(
        memory,
        a,
        vi.fn(() => Promise.reject(new Error('away'))),
      ),
    ).rejects.toThrow('away')
    await expect(hold(memory, a, reader(manifest('a', 5)))).rejects.toMatchObject({ code: 'corrupt' })
  }
  ;(await hold(memory, a)).release()
  ;(await hold(memory, b)).release()
})

it('does not keep the memory that a small manifest came in', async () => {
  const shared = Buffer.alloc(64 * KIB)
  const small = manifest('s', 10)
  small.bytes.copy(shared)
  const { bytes } = await hold(new AnswerMemory(150 * KIB), { digest: small.digest, bytes: shared.subarray(0, 10) })
  expect([bytes.buffer.byteLength, bytes.equals(small.bytes)]).toEqual([10, true])
})
