import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import type { Worker } from 'node:worker_threads'
import { gzipSync } from 'node:zlib'
import { PACKED_LIMITS } from '@strata/archive'
import { concat, file, pax, paxHeader, ZEROS } from '@strata/archive/testing'
import { StrataError } from '@strata/base'
import { digestFromHex, type DiffId, type Digest } from '@strata/oci'
import { afterAll, afterEach, beforeEach, expect, it, vi } from 'vitest'
import type { InflateTask } from './inflate.js'
import { IDLE_MS, InflateThreads } from './thread-pool.js'

const folder = mkdtempSync(join(tmpdir(), 'strata-inflate-threads-'))
afterAll(() => rmSync(folder, { recursive: true }))

/** Every thread that was started, in order. */
const started: Worker[] = []
const note = (worker: Worker): void => void started.push(worker)
let threads: InflateThreads
beforeEach(() => {
  started.length = 0
  process.on('worker', note)
  threads = new InflateThreads(2)
})
afterEach(async () => {
  process.off('worker', note)
  await threads.close()
})

const never = new AbortController().signal
const digestOf = (bytes: Uint8Array): Digest => digestFromHex(createHash('sha256').update(bytes).digest('hex'))

interface Layer {
  readonly task: InflateTask
  readonly packed: Buffer
  readonly plain: Buffer
  /** The blob as a file. */
  readonly path: string
}

function layer(plain = concat(file('a', randomUUID()), ZEROS), packed = gzipSync(plain, { level: 1 })): Layer {
  const path = join(folder, randomUUID())
  writeFileSync(path, packed)
  const task: InflateTask = {
    blob: digestOf(packed),
    diffId: digestOf(plain) as DiffId,
    tar: `${path}.tar`,
    index: `${path}.index`,
    checkpoints: undefined,
    limits: PACKED_LIMITS,
  }
  return { task, packed, plain, path }
}

async function inflated({ task, plain, path }: Layer): Promise<void> {
  expect(await threads.inflate(task, path, never)).toBe(task.diffId)
  expect(readFileSync(task.tar).equals(plain)).toBe(true)
}

/**
 * A body whose end does not come, and what tells that its reader has taken what there was. In a
 * turn of its own, for Node tells of a new thread at a turn's end.
 */
function endless(bytes: Buffer): { body: Readable; taken: Promise<unknown> } {
  const { promise, resolve } = Promise.withResolvers<undefined>()
  const parts = [bytes]
  const body = new Readable({
    read() {
      const next = parts.shift()
      if (next) this.push(next)
      else setImmediate(resolve, undefined)
    },
  })
  return { body, taken: promise }
}

it('one thread makes one layer after another, and each is its own', async () => {
  for (let n = 0; n < 40; n++) await inflated(layer())
  const large = concat(file('large', randomBytes(9_000_000)), ZEROS)
  await inflated(layer(large))
  await inflated(layer())
  expect(started).toHaveLength(1)
})

it('forty at once are made by as many threads as there may be', async () => {
  await Promise.all(Array.from({ length: 40 }, () => inflated(layer())))
  expect(started).toHaveLength(2)
})

it('a layer that is refused leaves its thread to the next', async () => {
  const { task, path } = layer()
  const wrong = { ...task, diffId: digestOf(randomBytes(9)) as DiffId }
  await expect(threads.inflate(wrong, path, never)).rejects.toMatchObject({ code: 'digest_mismatch' })
  const cut = layer(undefined, gzipSync(concat(file('b', 'b'), ZEROS)).subarray(0, 60))
  await expect(threads.inflate(cut.task, cut.path, never)).rejects.toMatchObject({ code: 'layer_invalid' })
  await inflated(layer())
  expect(started).toHaveLength(1)
})

it('an abort ends the layer, not the thread, and later ones see nothing of it', async () => {
  const { task, packed } = layer(concat(file('c', randomBytes(6_000_000)), ZEROS))
  for (let n = 0; n < 5; n++) {
    const { body, taken } = endless(packed.subarray(0, 3_000_000))
    const abort = new AbortController()
    const stopped = threads.inflate({ ...task, tar: `${task.tar}-${n}` }, body, abort.signal)
    await taken
    abort.abort(new StrataError('cancelled', 'no more'))
    await expect(stopped).rejects.toMatchObject({ code: 'cancelled', message: 'no more' })
    expect(body.destroyed).toBe(true)
    await inflated(layer())
  }
  expect(started).toHaveLength(1)
})

it('a layer that is aborted while it waits for a thread never begins; those behind it do', async () => {
  const [first, second] = [layer(), layer()]
  const bodies = [first, second].map(({ packed }) => endless(packed))
  const abort = new AbortController()
  const busy = [first, second].map(({ task }, n) =>
    expect(threads.inflate(task, bodies[n]!.body, abort.signal)).rejects.toMatchObject({ message: 'room' }),
  )
  await Promise.all(bodies.map(({ taken }) => taken))
  const [leaves, stays] = [layer(), layer()]
  const { body } = endless(leaves.packed)
  const leave = new AbortController()
  const left = threads.inflate(leaves.task, body, leave.signal)
  const staying = inflated(stays)
  leave.abort(new StrataError('cancelled', 'out of the line'))
  await expect(left).rejects.toMatchObject({ message: 'out of the line' })
  expect([body.destroyed, existsSync(leaves.task.tar)]).toEqual([true, false])
  abort.abort(new StrataError('cancelled', 'room'))
  await Promise.all(busy)
  await staying
  expect(started).toHaveLength(2)
})

it('a thread that dies fails its layer, and another takes its place', async () => {
  const { task, packed } = layer()
  const { body, taken } = endless(packed)
  const failed = expect(threads.inflate(task, body, never)).rejects.toMatchObject({ code: 'internal' })
  await taken
  await started[0]!.terminate()
  await failed
  expect(body.destroyed).toBe(true)
  await inflated(layer())
  expect(started).toHaveLength(2)
})

it('a thread that dies while it is idle costs nobody anything', async () => {
  await inflated(layer())
  await started[0]!.terminate()
  await inflated(layer())
  expect(started).toHaveLength(2)
})

it('a thread that fails in a way that nobody foresaw is not used again', async () => {
  const { task, path } = layer()
  const nowhere = { ...task, tar: join(folder, 'absent', 'tar') }
  await expect(threads.inflate(nowhere, path, never)).rejects.toMatchObject({ code: 'internal' })
  await inflated(layer())
  expect(started).toHaveLength(2)
})

it('a thread that holds much memory of its last layer is not kept', async () => {
  const entries = Array.from({ length: 750 }, (_, n) => [
    paxHeader(pax('SCHILY.xattr.user.large', `${n} `.repeat(15_000))),
    file(`${n}`, ''),
  ])
  await inflated(layer(concat(...entries.flat(), ZEROS)))
  await inflated(layer())
  expect(started).toHaveLength(2)
})

it('idle threads end after a time', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  try {
    await Promise.all([inflated(layer()), inflated(layer())])
    const ended = started.map((each) => once(each, 'exit'))
    await vi.advanceTimersByTimeAsync(IDLE_MS - 1)
    await inflated(layer())
    expect(started).toHaveLength(2)
    await vi.advanceTimersByTimeAsync(IDLE_MS)
    await Promise.all(ended)
    await inflated(layer())
    expect(started).toHaveLength(3)
  } finally {
    vi.useRealTimers()
  }
})

it('closing ends the idle ones, and a busy one when its layer is made', async () => {
  await inflated(layer())
  const { task, packed, plain } = layer()
  const { body, taken } = endless(packed)
  const under = threads.inflate(task, body, never)
  await taken
  const ended = once(started[0]!, 'exit')
  await threads.close()
  body.push(null)
  expect(await under).toBe(digestOf(plain))
  await ended
})
