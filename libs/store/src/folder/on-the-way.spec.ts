import { expect, it } from 'vitest'
import { onTheWay } from './on-the-way.js'

const PIECE = Buffer.alloc(4 * 1024 * 1024)

async function* pieces(count: number): AsyncGenerator<Uint8Array> {
  for (let n = 0; n < count; n++) yield await Promise.resolve(PIECE)
}

it('begins with one file at a time, and leaves nothing out of the others', async () => {
  const calls: { fd: number; offset: number; length: number; end: (error?: Error) => void }[] = []
  const begin = (fd: number, offset: number, length: number): Promise<void> =>
    new Promise((resolve, reject) =>
      calls.push({ fd, offset, length, end: (error) => (error ? reject(error) : resolve()) }),
    )
  const [one, other] = [onTheWay(1, pieces(7), begin), onTheWay(2, pieces(7), begin)]
  const step = async (file: AsyncGenerator<Uint8Array>, count: number) => {
    for (let n = 0; n < count; n++) expect((await file.next()).done).toBe(false)
  }
  const ranges = () => calls.map(({ fd, offset, length }) => [fd, offset / PIECE.length, length / PIECE.length])
  // A piece counts when the next one is asked for: it is written then.
  await step(one, 3)
  await step(other, 5)
  expect(ranges()).toEqual([[1, 0, 2]])
  calls[0]!.end(new Error('the disk'))
  await new Promise(setImmediate)
  await step(other, 1)
  expect(ranges()).toEqual([
    [1, 0, 2],
    [2, 0, 5],
  ])
  await step(one, 4)
  // Its descriptor stays open until its call has ended.
  const end = other.return(undefined)
  let hasEnded = false
  void end.then(() => (hasEnded = true))
  await new Promise(setImmediate)
  expect(hasEnded).toBe(false)
  calls[1]!.end()
  await end
  const last = one.next()
  await expect.poll(() => ranges().slice(2)).toEqual([[1, 2, 5]])
  calls[2]!.end()
  expect((await last).done).toBe(true)
})
