import { TAR_LIMITS } from '@strata/archive'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { file, header, pax, paxHeader, ZEROS } from '@strata/archive/testing'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { Answer } from './messages.js'
import { RingWriter } from './ring.js'
import { INDEX_MEMORY } from '@strata/archive'
import { IndexMemory } from '@strata/layers'
import { Readers, WorkerPair, type ReaderSession } from './readers.js'

const memory = new IndexMemory(INDEX_MEMORY)

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'strata-pairs-'))
  writeFileSync(join(folder, 'small'), '')
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const never = new AbortController().signal
const silent = (): void => undefined
const kindsOf = (answers: Answer[]): string[] => answers.map((answer) => answer.kind)

async function good(pair: WorkerPair): Promise<string[]> {
  const ring = new RingWriter(pair.ring)
  const answers = pair.run(
    { session: 1, keyPrefix: 'data/u/', folder, limits: TAR_LIMITS, layer: TAR_LIMITS, whole: false },
    () => undefined,
    () => undefined,
  )
  await ring.write(Buffer.concat([file('a', 'x'), ZEROS]))
  await ring.end()
  return kindsOf(await answers)
}

describe('WorkerPair', () => {
  it('is of use again after one of the two failed and the other was stopped', async () => {
    const pair = new WorkerPair(memory)
    const ring = new RingWriter(pair.ring)
    const answers = await pair.run(
      {
        session: 1,
        keyPrefix: 'data/u/',
        folder: join(folder, 'absent'),
        limits: TAR_LIMITS,
        layer: TAR_LIMITS,
        whole: false,
      },
      () => undefined,
      (answer) => {
        if (answer.kind === 'failed') ring.abort()
      },
    )
    expect(answers).toMatchObject([{ kind: 'failed', code: 'store_unavailable' }, { kind: 'aborted' }])
    expect(await good(pair)).toEqual(['written', 'hashed'])
    await pair.end()
  })
})

/** An archive of one layer, whose index has some 100 MiB: links with long targets. */
function* largeLayer(): Generator<Buffer> {
  const [pieces, links] = [50, 500]
  const long = paxHeader(pax('linkpath', 'x'.repeat(4000)))
  const piece = (at: number): Buffer =>
    Buffer.concat(
      Array.from({ length: links }, (_, i) => [long, header({ name: `${at}-${i}`, type: '2', link: 'x' })]).flat(),
    )
  yield header({ name: 'layer.tar', size: pieces * piece(0).length + ZEROS.length })
  for (let at = 0; at < pieces; at++) yield piece(at)
  yield Buffer.concat([ZEROS, ZEROS])
}

/** A turn that lasts until `end` is called. */
async function hold(session: ReaderSession): Promise<{ pair: WorkerPair; end: () => Promise<void> }> {
  const begun = Promise.withResolvers<WorkerPair>()
  const over = Promise.withResolvers()
  const turn = session.turn(never, silent, async (pair) => {
    begun.resolve(pair)
    await over.promise
  })
  turn.catch(begun.reject)
  const pair = await begun.promise
  return { pair, end: () => (over.resolve(undefined), turn) }
}

describe('Readers', () => {
  let readers: Readers
  afterEach(() => readers.close())

  it('replace a pair whose threads died, when those who had it have been told', async () => {
    readers = new Readers(1, memory)
    const session = readers.open('upload')
    const first = await session.turn(never, silent, async (pair) => {
      const answers = pair.run(
        { session: 1, keyPrefix: 'data/u/', folder, limits: TAR_LIMITS, layer: TAR_LIMITS, whole: false },
        () => undefined,
        () => undefined,
      )
      await pair.end()
      expect(kindsOf(await answers)).toEqual(['failed', 'failed'])
      return pair
    })
    await expect(session.turn(never, silent, () => Promise.resolve())).rejects.toMatchObject({ code: 'internal' })
    session.close()
    const next = readers.open('upload')
    const second = await next.turn(never, silent, async (pair) => {
      expect(await good(pair)).toEqual(['written', 'hashed'])
      return pair
    })
    expect(second).not.toBe(first)
    next.close()
    const third = readers.open('upload')
    expect(await third.turn(never, silent, (pair) => Promise.resolve(pair))).toBe(second)
    third.close()
    await expect(
      readers.open('upload').turn(AbortSignal.abort(new Error('gone')), silent, () => Promise.resolve()),
    ).rejects.toThrow('gone')
  })

  it('keep no pair that a large layer filled', async () => {
    readers = new Readers(1, memory)
    const session = readers.open('upload')
    const filled = await session.turn(never, silent, async (pair) => {
      const ring = new RingWriter(pair.ring)
      const job = {
        session: session.id,
        keyPrefix: 'data/u/',
        folder,
        limits: TAR_LIMITS,
        layer: TAR_LIMITS,
        whole: false,
      }
      const answers = pair.run(
        job,
        () => ring.indexStored(),
        () => undefined,
      )
      for (const piece of largeLayer()) await ring.write(piece)
      await ring.end()
      expect(kindsOf(await answers)).toEqual(['written', 'hashed'])
      return pair
    })
    session.close()
    const next = readers.open('upload')
    await next.turn(never, silent, async (pair) => {
      expect(pair).not.toBe(filled)
      expect(await good(pair)).toEqual(['written', 'hashed'])
    })
    next.close()
  })

  it('keep a pair for files, whatever uploads there are', async () => {
    readers = new Readers(2, memory)
    const uploads = await Promise.all([hold(readers.open('upload')), hold(readers.open('upload'))])
    const third = readers.open('upload')
    const waits = new AbortController()
    const waiting = third.turn(waits.signal, silent, () => Promise.resolve())
    const file = await hold(readers.open('file'))
    expect(new Set([...uploads, file].map(({ pair }) => pair)).size).toBe(3)
    waits.abort(new Error('enough'))
    await expect(waiting).rejects.toThrow('enough')
    await Promise.all([...uploads, file].map(({ end }) => end()))
  })

  it('are shared by turns: an upload comes back to its pair, and others have it meanwhile', async () => {
    readers = new Readers(1, memory)
    const [one, two] = [readers.open('upload'), readers.open('upload')]
    const first = await hold(one)
    const second = hold(two)
    expect(one.isWanted).toBe(true)
    await first.end()
    const { pair, end } = await second
    expect(pair).toBe(first.pair)
    expect(two.isWanted).toBe(false)
    const again = hold(one)
    expect(two.isWanted).toBe(true)
    await end()
    expect((await again).pair).toBe(pair)
    await (await again).end()
    one.close()
    two.close()
  })

  it('say what is waited for, and when that is over', async () => {
    readers = new Readers(1, memory)
    const first = await hold(readers.open('upload'))
    const told: (string | undefined)[] = []
    const second = readers.open('upload').turn(
      never,
      (step) => void told.push(step),
      () => Promise.resolve(),
    )
    await expect.poll(() => told).toEqual(['waiting for a reader: 1 upload is being read'])
    await first.end()
    await second
    expect(told).toEqual(['waiting for a reader: 1 upload is being read', undefined])
  })

  it('tell those who wait that the service stops', async () => {
    readers = new Readers(1, memory)
    const first = await hold(readers.open('upload'))
    const waiting = expect(readers.open('upload').turn(never, silent, () => Promise.resolve())).rejects.toMatchObject({
      code: 'cancelled',
    })
    await readers.close()
    await waiting
    await first.end()
  })
})
