import { describe, expect, it } from 'vitest'
import { atMost, atMostOf } from './at-most.js'

const turn = () => new Promise<void>((done) => setImmediate(done))

/** Works that end when they are told to, and what is under way. */
class Works {
  readonly begun: number[] = []
  readonly #ends = new Map<number, { resolve: () => void; reject: (error: Error) => void }>()

  readonly work = async (item: number): Promise<string> => {
    this.begun.push(item)
    await new Promise<void>((resolve, reject) => this.#ends.set(item, { resolve, reject }))
    return `${item}`
  }
  async end(item: number, error?: Error): Promise<void> {
    const { resolve, reject } = this.#ends.get(item)!
    if (error) reject(error)
    else resolve()
    await turn()
  }
}

async function* given(items: readonly number[]): AsyncGenerator<number> {
  for (const item of items) yield await Promise.resolve(item)
}
async function gathered(items: AsyncIterable<string>): Promise<string[]> {
  const all: string[] = []
  for await (const item of items) all.push(item)
  return all
}

describe.each([
  ['of a list', (most: number, items: number[], work: Works['work']) => atMost(most, items, work)],
  ['of a stream', (most: number, items: number[], work: Works['work']) => gathered(atMostOf(most, given(items), work))],
])('works %s', (_, all) => {
  it('are under way a few at a time, and give their results in order', async () => {
    const works = new Works()
    const results = all(2, [1, 2, 3, 4], works.work)
    await turn()
    expect(works.begun).toEqual([1, 2])
    await works.end(1)
    expect(works.begun).toEqual([1, 2, 3])
    await works.end(3)
    for (const item of [2, 4]) await works.end(item)
    expect(await results).toEqual(['1', '2', '3', '4'])
  })

  it('begin no more behind a failure, which is told when all have settled', async () => {
    const works = new Works()
    let told: Error | undefined
    const failing = all(2, [1, 2, 3, 4], works.work).catch((error: unknown) => {
      told = error as Error
    })
    await turn()
    await works.end(1, new Error('no'))
    expect(told).toBeUndefined()
    await works.end(2)
    await failing
    expect(told).toEqual(new Error('no'))
    expect(works.begun).toEqual([1, 2])
  })

  it('are none of nothing', async () => {
    expect(await all(2, [], new Works().work)).toEqual([])
  })
})
