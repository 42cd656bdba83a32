import { setImmediate } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { JointItems, JointRuns } from './joint-runs.js'

/** Runs that end when they are told to, and what became of each. */
function controlled() {
  const runs: {
    readonly signal: AbortSignal
    readonly end: (result: string) => void
    readonly fail: (error: Error) => void
  }[] = []
  const joint = new JointRuns<string, string>()
  const ask = (what = 'all', signal = new AbortController().signal): Promise<string> =>
    joint.run(
      what,
      (abort) => {
        const { promise, resolve, reject } = Promise.withResolvers<string>()
        abort.addEventListener('abort', () => reject(abort.reason as Error))
        runs.push({ signal: abort, end: resolve, fail: reject })
        return promise
      },
      signal,
    )
  return { runs, ask }
}

it('all who come while a run is under way share the next, which begins when that has ended', async () => {
  const { runs, ask } = controlled()
  const first = ask()
  await setImmediate()
  const others = [ask(), ask(), ask()]
  await setImmediate()
  expect(runs).toHaveLength(1)
  runs[0]!.end('first')
  expect(await first).toBe('first')
  await setImmediate()
  expect(runs).toHaveLength(2)
  const third = ask()
  runs[1]!.end('second')
  expect(await Promise.all(others)).toEqual(['second', 'second', 'second'])
  await setImmediate()
  runs[2]!.end('third')
  expect(await third).toBe('third')
})

it('does not keep apart things from each other, nor a failure from who shares it', async () => {
  const { runs, ask } = controlled()
  const [one, same, other] = [ask('one'), ask('one'), ask('other')]
  await setImmediate()
  expect(runs).toHaveLength(2)
  runs[0]!.fail(new Error('broken'))
  runs[1]!.end('other')
  await expect(one).rejects.toThrow('broken')
  await expect(same).rejects.toThrow('broken')
  expect(await other).toBe('other')
  const again = ask('one')
  await setImmediate()
  runs[2]!.end('again')
  expect(await again).toBe('again')
})

it('who gives up is told at once; the run goes on for the others, and is aborted with the last of them', async () => {
  const { runs, ask } = controlled()
  const leaving = [new AbortController(), new AbortController()]
  const asked = leaving.map(({ signal }) => ask('all', signal))
  await setImmediate()
  leaving[0]!.abort(new Error('first left'))
  await expect(asked[0]).rejects.toThrow('first left')
  expect(runs[0]!.signal.aborted).toBe(false)
  leaving[1]!.abort(new Error('second left'))
  await expect(asked[1]).rejects.toThrow('second left')
  expect(runs[0]!.signal.aborted).toBe(true)
})

it('a run that everybody has left before it began never begins, and whoever comes then has one', async () => {
  const { runs, ask } = controlled()
  const first = ask()
  await setImmediate()
  const leaving = new AbortController()
  const left = ask('all', leaving.signal)
  leaving.abort(new Error('left'))
  await expect(left).rejects.toThrow('left')
  const next = ask()
  runs[0]!.end('first')
  await first
  await setImmediate()
  expect(runs).toHaveLength(2)
  runs[1]!.end('next')
  expect(await next).toBe('next')
})

it('a run gets the items of all whom it serves, and each item goes into one run', async () => {
  const joint = new JointItems<string, number, string>()
  const ends: (() => void)[] = []
  const ask = (item: number): Promise<string> =>
    joint.run('all', item, async (items) => {
      await new Promise<void>((resolve) => ends.push(resolve))
      return [...items].join()
    })
  const first = ask(1)
  await setImmediate()
  const others = [ask(2), ask(3), ask(2)]
  ends[0]!()
  expect(await first).toBe('1')
  await setImmediate()
  const last = ask(4)
  ends[1]!()
  expect(await Promise.all(others)).toEqual(['2,3', '2,3', '2,3'])
  await setImmediate()
  ends[2]!()
  expect(await last).toBe('4')
  expect(ends).toHaveLength(3)
})

it('a run gets at most 256 items, and those beyond get the next one, whether or not one is under way', async () => {
  const joint = new JointItems<string, number, void>()
  const sizes: number[] = []
  const run = (item: number): Promise<void> =>
    joint.run('all', item, async ({ size }) => {
      sizes.push(size)
      await setImmediate()
    })
  const items = Array.from({ length: 600 }, (_, n) => n)
  await Promise.all([...items.map(run), run(599)])
  expect(sizes).toEqual([256, 256, 88])
  const first = run(0)
  await setImmediate()
  await Promise.all([first, ...items.map(run)])
  expect(sizes.slice(3)).toEqual([1, 256, 256, 88])
})
