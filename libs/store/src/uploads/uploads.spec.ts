import { randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { digestOf, parseReference, type Digest } from '@strata/oci'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { MAX_PIECES, MAX_SERIES } from '../blobs/blob-record.js'
import { BlobStore } from '../blobs/blobs.js'
import { Collector } from '../blobs/collector.js'
import { numberedDataKey, PREFIX } from '../keys.js'
import { Leases } from '../leases/leases.js'
import { listAll, type ObjectStore } from '../objects/object-store.js'
import { RepositoryBlobs } from '../repositories/repository-blobs.js'
import { stopAt } from '../testing/stop-at.js'
import { temporaryStore } from '../testing/temporary-store.js'
import { Uploads, type Chunk } from './uploads.js'

let store: ObjectStore
let dispose: () => Promise<void>
let uploads: Uploads
beforeEach(async () => {
  ;({ store, dispose } = await temporaryStore())
  uploads = processOn(store)
})
afterEach(() => dispose())

/** As another gateway has it. */
const TIMES = { expiryMs: 3_600_000, holdMs: 86_400_000 }
const processOn = (on: ObjectStore, bytes = 2 ** 20): Uploads =>
  new Uploads(on, new RepositoryBlobs(on), { bytes, ...TIMES })
const app = parseReference('team/app').repository
const other = parseReference('team/other').repository
const chunk = (bytes: Uint8Array, more: Omit<Chunk, 'source'> = {}): Chunk => ({ source: pieces(bytes), ...more })
async function* pieces(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += 1_000) yield await Promise.resolve(bytes.subarray(at, at + 1_000))
}
async function* broken(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield* pieces(bytes)
  throw new Error('the client is gone')
}
const has = (digest: Digest, repository = app): Promise<boolean> => new RepositoryBlobs(store).has(repository, digest)
const stored = async (digest: Digest): Promise<Buffer> => buffer((await new BlobStore(store).open(digest)).body)
const keysBelow = async (prefix: string): Promise<string[]> => {
  const found: string[] = []
  for await (const { key } of listAll(store, prefix)) found.push(key)
  return found
}
const collect = () => new Collector(store).collect({ dryRun: false, references: async function* () {} })
/** How many writes of each kind a process makes. */
function counted(on: ObjectStore): { store: ObjectStore; calls: Record<string, number> } {
  const calls: Record<string, number> = {}
  const counting = new Proxy(on, {
    get: (target, name) => {
      const member: unknown = Reflect.get(target, name, target)
      if (typeof member !== 'function') return member
      return (...args: unknown[]): unknown => {
        calls[String(name)] = (calls[String(name)] ?? 0) + 1
        return (member as (...args: unknown[]) => unknown).apply(target, args)
      }
    },
  })
  return { store: counting, calls }
}
/** A process that dies at its `at`th write: that one and all later ones do nothing. */
function dying(on: ObjectStore, at: number): { store: ObjectStore; isDead: () => boolean } {
  let count = 0
  const mutations = new Set(['put', 'create', 'replace', 'delete', 'removeUnchanged'])
  const dead = new Proxy(on, {
    get: (target, name) => {
      const member: unknown = Reflect.get(target, name, target)
      if (typeof member !== 'function') return member
      return (...args: unknown[]): unknown => {
        if (mutations.has(String(name)) && count++ >= at) return Promise.reject(new Error('died'))
        return (member as (...args: unknown[]) => unknown).apply(target, args)
      }
    },
  })
  return { store: dead, isDead: () => count > at }
}

it.each(['sha256', 'sha512'] as const)(
  'chunks that come to several processes become a blob of %s, written and hashed once',
  async (algorithm) => {
    const bytes = randomBytes(10_000)
    const digest = digestOf(bytes, algorithm)
    const { store: on, calls } = counted(store)
    const { id } = await processOn(on).begin(app, algorithm)
    for (const [start, end] of [
      [0, 1],
      [1, 4_000],
      [4_000, 4_000],
      [4_000, 10_000],
    ] as const) {
      const status = await processOn(on).append(
        app,
        id,
        chunk(bytes.subarray(start, end), { start, length: end - start }),
      )
      expect(status).toEqual({ id, bytes: end })
      expect(await uploads.status(app, id)).toEqual({ id, bytes: end })
    }
    expect(await has(digest)).toBe(false)
    const last = processOn(on)
    await last.finish(app, id, digest)
    expect((await stored(digest)).equals(bytes)).toBe(true)
    expect(await has(digest)).toBe(true)
    expect(last.rehashed).toBe(0)
    // Nothing was read back, and of bytes nothing is there but the chunks.
    expect(calls['get'] ?? 0).toBe(0)
    expect(await keysBelow(PREFIX.data)).toHaveLength(3)
    await expect(uploads.status(app, id)).rejects.toMatchObject({ code: 'upload_not_found' })
  },
)

it('one request is enough, with and without an upload; a blob may have no bytes', async () => {
  for (const bytes of [randomBytes(3_000), Buffer.alloc(0)]) {
    const digest = digestOf(bytes)
    await uploads.put(app, digest, chunk(bytes, { length: bytes.length }))
    expect((await stored(digest)).equals(bytes)).toBe(true)
  }
  const bytes = randomBytes(3_000)
  const { id } = await uploads.begin(app)
  await uploads.finish(app, id, digestOf(bytes), chunk(bytes))
  expect(await has(digestOf(bytes))).toBe(true)
  const empty = await uploads.begin(app)
  await uploads.finish(app, empty.id, digestOf(''))
  await expect(uploads.put(app, digestOf('x'), chunk(bytes))).rejects.toMatchObject({ code: 'digest_mismatch' })
  expect(await keysBelow(PREFIX.data)).toHaveLength(3)
})

it('a chunk that does not begin where the upload is, or lies, changes nothing', async () => {
  const bytes = randomBytes(5_000)
  const { id } = await uploads.begin(app)
  await uploads.append(app, id, chunk(bytes.subarray(0, 2_000), { start: 0 }))
  const refused = async (make: () => Chunk, code: string): Promise<void> => {
    await expect(uploads.append(app, id, make())).rejects.toMatchObject({ code })
    await expect(uploads.finish(app, id, digestOf(bytes), make())).rejects.toMatchObject({ code })
    expect(await uploads.status(app, id)).toEqual({ id, bytes: 2_000 })
  }
  await refused(() => chunk(bytes.subarray(3_000), { start: 3_000 }), 'range_invalid')
  await refused(() => chunk(bytes.subarray(1_000), { start: 1_000 }), 'range_invalid')
  await refused(() => chunk(bytes.subarray(0, 2_000), { start: 0 }), 'range_invalid')
  await refused(() => chunk(bytes.subarray(2_000), { start: 2_000, length: 2_999 }), 'range_invalid')
  await refused(() => chunk(bytes.subarray(2_000), { start: 2_000, length: 3_001 }), 'range_invalid')
  await refused(() => chunk(randomBytes(2 ** 20)), 'limit_exceeded')
  await expect(uploads.finish(app, id, digestOf(bytes), chunk(randomBytes(3_000)))).rejects.toMatchObject({
    code: 'digest_mismatch',
  })
  await uploads.finish(app, id, digestOf(bytes), chunk(bytes.subarray(2_000), { start: 2_000, length: 3_000 }))
  expect((await stored(digestOf(bytes))).equals(bytes)).toBe(true)
  expect(await keysBelow(PREFIX.data)).toHaveLength(2)
})

it('a chunk that says that it is too large is refused before a byte of it is read', async () => {
  const most = 2 ** 20
  const { id } = await uploads.begin(app)
  await uploads.append(app, id, chunk(Buffer.alloc(10)))
  const before = await keysBelow(PREFIX.data)
  const unread: AsyncIterable<Uint8Array> = {
    [Symbol.asyncIterator]: () => {
      throw new Error('it was read')
    },
  }
  const refused = { code: 'limit_exceeded', message: expect.stringContaining('STRATA_MAX_BLOB_BYTES') as string }
  const tooLarge = { source: unread, length: most - 9 }
  await expect(uploads.append(app, id, tooLarge)).rejects.toMatchObject(refused)
  await expect(uploads.finish(app, id, digestOf('x'), tooLarge)).rejects.toMatchObject(refused)
  await expect(uploads.put(app, digestOf('x'), { source: unread, length: most + 1 })).rejects.toMatchObject(refused)
  expect(await uploads.status(app, id)).toEqual({ id, bytes: 10 })
  expect(await keysBelow(PREFIX.data)).toEqual(before)
})

it('what came of a body that broke off is kept', async () => {
  const bytes = randomBytes(9_000)
  const { id } = await uploads.begin(app)
  await expect(uploads.append(app, id, { source: broken(bytes.subarray(0, 3_000)), length: 9_000 })).rejects.toThrow(
    'gone',
  )
  expect(await uploads.status(app, id)).toEqual({ id, bytes: 3_000 })
  const failing = { source: broken(bytes.subarray(3_000, 5_000)), length: 6_000 }
  await expect(processOn(store).finish(app, id, digestOf(bytes), failing)).rejects.toThrow('gone')
  expect(await uploads.status(app, id)).toEqual({ id, bytes: 5_000 })
  await expect(uploads.append(app, id, { source: broken(Buffer.alloc(0)) })).rejects.toThrow('gone')
  await processOn(store).finish(app, id, digestOf(bytes), chunk(bytes.subarray(5_000), { start: 5_000 }))
  expect((await stored(digestOf(bytes))).equals(bytes)).toBe(true)
  expect(uploads.rehashed).toBe(0)
})

it('if the hash was not kept, or another one is asked for, the bytes are read once more, and counted', async () => {
  const bytes = randomBytes(4_000)
  const { id } = await uploads.begin(app)
  await uploads.append(app, id, chunk(bytes.subarray(0, 3_000)))
  await uploads.finish(app, id, digestOf(bytes, 'sha512'), chunk(bytes.subarray(3_000)))
  expect((await stored(digestOf(bytes, 'sha512'))).equals(bytes)).toBe(true)
  expect(uploads.rehashed).toBe(3_000)
  const moved = await uploads.begin(app)
  await uploads.append(app, moved.id, chunk(bytes.subarray(0, 3_000)))
  const leases = new Leases(store)
  const { run } = await leases.begin(moved.id)
  // As a machine with another libcrypto wrote it.
  await leases.update(run, (lease) => ({ ...lease, request: { ...lease.request, hash: { kind: 'other', state: '' } } }))
  await uploads.append(app, moved.id, chunk(bytes.subarray(3_000, 3_500)))
  await uploads.finish(app, moved.id, digestOf(bytes), chunk(bytes.subarray(3_500)))
  expect(uploads.rehashed).toBe(6_500)
})

it('the last request wins over one that still sends, which records nothing', async () => {
  const bytes = randomBytes(4_000)
  const { id } = await uploads.begin(app)
  const slow = Promise.withResolvers<undefined>()
  const begun = Promise.withResolvers<undefined>()
  async function* slowly() {
    yield bytes.subarray(0, 1_000)
    begun.resolve(undefined)
    await slow.promise
    yield randomBytes(500)
  }
  const first = uploads.append(app, id, { source: slowly() })
  await begun.promise
  await processOn(store).append(app, id, chunk(bytes, { start: 0 }))
  slow.resolve(undefined)
  await expect(first).rejects.toMatchObject({ code: 'upload_interrupted' })
  // What the first one had written is gone.
  expect(await keysBelow(PREFIX.data)).toHaveLength(1)
  expect(await uploads.status(app, id)).toEqual({ id, bytes: 4_000 })
  await uploads.finish(app, id, digestOf(bytes))
  expect((await stored(digestOf(bytes))).equals(bytes)).toBe(true)
})

it('what a superseded request has written stays if its record was written, and only the answer was lost', async () => {
  const bytes = randomBytes(2_000)
  const { id } = await uploads.begin(app)
  let isLost = false
  const lossy = new Proxy(store, {
    get: (target, name) => {
      const member: unknown = Reflect.get(target, name, target)
      if (typeof member !== 'function') return member
      return async (...args: unknown[]): Promise<unknown> => {
        const answer = await (member as (...args: unknown[]) => unknown).apply(target, args)
        if (name !== 'replace' || isLost || !String(args[1]).includes('"pieces":[{')) return answer
        // The store's answer says that another was first; meanwhile another process goes on.
        isLost = true
        await processOn(store).append(app, id, chunk(bytes.subarray(1_000), { start: 1_000 }))
        return undefined
      }
    },
  })
  lossy.list = store.list.bind(store)
  await expect(processOn(lossy).append(app, id, chunk(bytes.subarray(0, 1_000)))).rejects.toMatchObject({
    code: 'upload_interrupted',
  })
  await uploads.finish(app, id, digestOf(bytes))
  expect((await stored(digestOf(bytes))).equals(bytes)).toBe(true)
})

it('a process may die at any write of an upload, and another one finishes it', async () => {
  for (let at = 0, isDead = true; isDead; at++) {
    const bytes = randomBytes(3_000)
    const digest = digestOf(bytes)
    const { id } = await uploads.begin(app)
    await uploads.append(app, id, chunk(bytes.subarray(0, 1_000)))
    const one = dying(store, at)
    await processOn(one.store)
      .finish(app, id, digest, chunk(bytes.subarray(1_000), { start: 1_000 }))
      .catch(() => undefined)
    isDead = one.isDead()
    const status = await uploads.status(app, id).catch(() => undefined)
    // The client repeats its request, or finds the blob.
    if (status === undefined) expect(await has(digest), `write ${at}`).toBe(true)
    else {
      const rest = status.bytes === 3_000 ? undefined : chunk(bytes.subarray(status.bytes), { start: status.bytes })
      if (status.bytes === 3_000) {
        await expect(uploads.append(app, id, chunk(randomBytes(10)))).rejects.toMatchObject({
          code: 'upload_not_found',
        })
        await expect(uploads.finish(app, id, digestOf('x'))).rejects.toMatchObject({ code: 'digest_mismatch' })
      }
      await uploads.finish(app, id, digest, rest)
    }
    await collect()
    expect((await stored(digest)).equals(bytes), `write ${at}`).toBe(true)
    expect(await has(digest)).toBe(true)
  }
  // Nothing stays but the blobs.
  const used = new Set<string>()
  for await (const { record } of new BlobStore(store).list())
    for (const { data } of 'pieces' in record ? record.pieces : [record]) used.add(data)
  expect((await keysBelow(PREFIX.data)).filter((key) => !used.has(key))).toEqual([])
})

it('two that finish one upload at once make one blob', async () => {
  const bytes = randomBytes(3_000)
  const digest = digestOf(bytes)
  const { id } = await uploads.begin(app)
  await uploads.append(app, id, chunk(bytes))
  const { store: still, stop } = stopAt(store, ['create'], `blobs/sha256/${digest.slice(7)}`)
  const first = processOn(still)
    .finish(app, id, digest)
    .catch((error: unknown) => error)
  await stop.reached
  await processOn(store).finish(app, id, digest)
  stop.goOn()
  expect([undefined, 'upload_interrupted', 'upload_not_found']).toContain(
    ((await first) as { code?: string } | undefined)?.code,
  )
  await collect()
  expect((await stored(digest)).equals(bytes)).toBe(true)
})

it('ten clients that push the same at once store it once', async () => {
  const bytes = randomBytes(5_000)
  const digest = digestOf(bytes)
  await Promise.all(Array.from({ length: 10 }, () => processOn(store).put(app, digest, chunk(bytes))))
  expect((await stored(digest)).equals(bytes)).toBe(true)
  expect(await keysBelow(PREFIX.data)).toHaveLength(1)
})

it('a blob stays until its pusher’s hold has ended', async () => {
  const bytes = randomBytes(100)
  await uploads.put(app, digestOf(bytes), chunk(bytes))
  await collect()
  expect(await has(digestOf(bytes))).toBe(true)
  const leases = new Leases(store)
  for (const id of await leases.liveIds()) await leases.end(id)
  await collect()
  expect(await new BlobStore(store).stat(digestOf(bytes))).toBeUndefined()
  expect(await keysBelow(PREFIX.data)).toEqual([])
  // The next push of this process gets another hold.
  await uploads.put(app, digestOf(bytes), chunk(bytes))
  expect(await has(digestOf(bytes))).toBe(true)
})

it('a blob that a client was told of stays until that hold has ended, and is held once', async () => {
  const [bytes, leases] = [randomBytes(100), new Leases(store)]
  const digest = digestOf(bytes)
  const endAll = async (): Promise<void> => {
    for (const id of await leases.liveIds()) await leases.end(id)
  }
  await uploads.put(app, digest, chunk(bytes))
  await endAll()
  const { store: on, calls } = counted(store)
  const asked = processOn(on)
  expect(await asked.keep(app, digest, [])).toBe(true)
  await collect()
  expect([await has(digest), (await stored(digest)).equals(bytes)]).toEqual([true, true])
  const holders = (await new RepositoryBlobs(store).holders(app, digest))!
  expect(holders).toEqual((await new BlobStore(store).stat(digest))?.holders)
  const before = { ...calls }
  expect(await asked.keep(app, digest, holders)).toBe(true)
  expect(calls).toEqual(before)
  // A repository that has lost it does not get it back.
  expect(await asked.keep(other, digest, [])).toBe(false)
  expect(await has(digest, other)).toBe(false)
  await endAll()
  await collect()
  expect(await has(digest)).toBe(false)
  expect(await asked.keep(app, digest, [])).toBe(false)
  expect(await keysBelow(PREFIX.data)).toEqual([])
})

it('a blob is mounted from a repository that has it, or from any; what is not there is not', async () => {
  const bytes = randomBytes(100)
  const digest = digestOf(bytes)
  expect(await uploads.mount(other, digest, undefined)).toBe(false)
  await uploads.put(app, digest, chunk(bytes))
  expect(await uploads.mount(other, digest, parseReference('team/third').repository)).toBe(false)
  expect(await has(digest, other)).toBe(false)
  expect(await uploads.mount(other, digest, app)).toBe(true)
  expect(await has(digest, other)).toBe(true)
  const third = parseReference('team/third').repository
  expect(await uploads.mount(third, digest, undefined)).toBe(true)
  expect(await has(digest, third)).toBe(true)
})

it('a cancelled upload is gone with its bytes; an id of another repository, of no upload, and no id are none', async () => {
  const { id } = await uploads.begin(app)
  await uploads.append(app, id, chunk(randomBytes(100)))
  const load = '00000000-0000-4000-8000-000000000000'
  await new Leases(store).create(load, { job: { kind: 'load', id: load }, request: {} })
  for (const [repository, wrong] of [
    [other, id],
    [app, load],
    [app, 'x'],
    [app, '../../x'],
    [app, '-'.repeat(36)],
    [app, load.replace('8', '9')],
  ] as const)
    for (const call of [
      () => uploads.status(repository, wrong),
      () => uploads.append(repository, wrong, chunk(randomBytes(1))),
      () => uploads.finish(repository, wrong, digestOf('')),
      () => uploads.cancel(repository, wrong),
    ])
      await expect(call(), wrong).rejects.toMatchObject({ code: 'upload_not_found' })
  await uploads.cancel(app, id)
  await expect(uploads.cancel(app, id)).rejects.toMatchObject({ code: 'upload_not_found' })
  expect(await keysBelow(PREFIX.data)).toEqual([])
  expect((await new Leases(store).get(load))?.state).toBe('receiving')
})

it('a cancelled upload looks at no other blob', async () => {
  const callsOf = async (): Promise<Record<string, number>> => {
    const { id } = await uploads.begin(app)
    await uploads.append(app, id, chunk(randomBytes(100)))
    const { store: on, calls } = counted(store)
    await processOn(on).cancel(app, id)
    return calls
  }
  const alone = await callsOf()
  for (let at = 0; at < 20; at++) await uploads.put(app, digestOf(`${at}`), chunk(Buffer.from(`${at}`)))
  expect(await callsOf()).toEqual(alone)
  expect(await keysBelow(PREFIX.data)).toHaveLength(20)
  // A put that breaks off cancels by itself.
  const { store: on, calls } = counted(store)
  await expect(processOn(on).put(app, digestOf('x'), { source: broken(randomBytes(10)) })).rejects.toThrow('gone')
  expect(calls['read']).toBeLessThan(20)
})

it('a cancellation takes nothing of an upload that another request finishes meanwhile', async () => {
  for (let at = 0, isPast = false; !isPast; at++) {
    const bytes = randomBytes(1_000)
    const digest = digestOf(bytes)
    const { id } = await uploads.begin(app)
    await uploads.append(app, id, chunk(bytes))
    let count = 0
    let finished: Promise<unknown> | undefined
    const changes = new Set(['put', 'create', 'replace', 'delete', 'removeUnchanged'])
    const slow = new Proxy(store, {
      get: (target, name) => {
        const member: unknown = Reflect.get(target, name, target)
        if (typeof member !== 'function') return member
        return async (...args: unknown[]): Promise<unknown> => {
          if (changes.has(String(name)) && count++ === at) {
            finished = processOn(store)
              .finish(app, id, digest)
              .then(
                () => undefined,
                (error: unknown) => error,
              )
            await finished
          }
          return (member as (...args: unknown[]) => unknown).apply(target, args)
        }
      },
    })
    // What is iterated is not awaited.
    slow.list = store.list.bind(store)
    await processOn(slow)
      .cancel(app, id)
      .catch(() => undefined)
    isPast = finished === undefined
    const failure = await finished
    if (isPast || failure !== undefined) expect(await has(digest), `change ${at}`).toBe(false)
    else expect((await stored(digest)).equals(bytes), `change ${at}`).toBe(true)
  }
})

it('a request that is refused does not end the one that sends', async () => {
  const bytes = randomBytes(4_000)
  const { id } = await uploads.begin(app)
  await uploads.append(app, id, chunk(bytes.subarray(0, 1_000)))
  const [begun, slow] = [Promise.withResolvers<undefined>(), Promise.withResolvers<undefined>()]
  async function* slowly() {
    yield bytes.subarray(1_000, 2_000)
    begun.resolve(undefined)
    await slow.promise
    yield bytes.subarray(2_000)
  }
  const first = uploads.append(app, id, { source: slowly() })
  await begun.promise
  const probe = processOn(store)
  await expect(probe.append(app, id, chunk(bytes, { start: 5 }))).rejects.toMatchObject({ code: 'range_invalid' })
  await expect(probe.finish(app, id, digestOf(bytes), chunk(bytes, { start: 5 }))).rejects.toMatchObject({
    code: 'range_invalid',
  })
  await expect(probe.finish(app, id, digestOf('x'))).rejects.toMatchObject({ code: 'digest_mismatch' })
  slow.resolve(undefined)
  expect(await first).toEqual({ id, bytes: 4_000 })
  await uploads.finish(app, id, digestOf(bytes))
  expect((await stored(digestOf(bytes))).equals(bytes)).toBe(true)
})

it('a state of the hash that belongs to other bytes is not gone on with', async () => {
  const bytes = randomBytes(3_000)
  const { id } = await uploads.begin(app)
  await uploads.append(app, id, chunk(bytes.subarray(0, 2_000)))
  const leases = new Leases(store)
  const { run } = await leases.begin(id)
  await leases.update(run, (lease) => {
    const { kind, state } = lease.request['hash'] as { kind: string; state: string }
    const wrong = Buffer.from(state, 'base64')
    wrong[104] = 0xff
    return { ...lease, request: { ...lease.request, hash: { kind, state: wrong.toString('base64') } } }
  })
  await uploads.finish(app, id, digestOf(bytes), chunk(bytes.subarray(2_000)))
  expect((await stored(digestOf(bytes))).equals(bytes)).toBe(true)
  expect(uploads.rehashed).toBe(2_000)
})

it('bytes are read back within the limit, with a heartbeat, and for nobody who has gone', async () => {
  const bytes = randomBytes(4_000)
  const digest = digestOf(bytes, 'sha512')
  const { id } = await uploads.begin(app)
  for (let at = 0; at < 4; at++) await uploads.append(app, id, chunk(bytes.subarray(at * 1_000, (at + 1) * 1_000)))
  let inside = 0
  const limited = (on: ObjectStore): Uploads =>
    new Uploads(on, new RepositoryBlobs(on), {
      bytes: 2 ** 20,
      ...TIMES,
      readingBack: async (work) => {
        inside++
        return work()
      },
    })
  const [reached, released] = [Promise.withResolvers<undefined>(), Promise.withResolvers<undefined>()]
  const reads: string[] = []
  const slow = new Proxy(store, {
    get: (target, name) => {
      const member: unknown = Reflect.get(target, name, target)
      if (typeof member !== 'function') return member
      if (name !== 'get') return member.bind(target) as unknown
      return async (key: string) => {
        reads.push(key)
        reached.resolve(undefined)
        await released.promise
        return target.get(key)
      }
    },
  })
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
  const client = new AbortController()
  try {
    const finishing = limited(slow).finish(app, id, digest, undefined, client.signal)
    await reached.promise
    const before = (await new Leases(store).get(id))?.etag
    vi.advanceTimersByTime(30_000)
    vi.useRealTimers()
    await expect.poll(async () => (await new Leases(store).get(id))?.etag).not.toBe(before)
    client.abort()
    released.resolve(undefined)
    await expect(finishing).rejects.toMatchObject({ code: 'upload_interrupted' })
  } finally {
    vi.useRealTimers()
  }
  expect(reads).toHaveLength(1)
  expect(inside).toBe(1)
  await limited(store).finish(app, id, digest)
  expect(inside).toBe(2)
  expect((await stored(digest)).equals(bytes)).toBe(true)
})

it('bytes that are read back are hashed 256 KiB in a turn of the event loop, of all uploads together', async () => {
  let [turn, isOver] = [0, false]
  const count = (): void => {
    turn++
    if (!isOver) setImmediate(count)
  }
  const hashed: { readonly turn: number; readonly length: number }[] = []
  /** As S3 gives them: in one piece of memory. */
  const inOnePiece = (bytes: Buffer): Buffer =>
    Object.assign(Buffer.from(bytes), {
      subarray: (start: number, end: number) => {
        const slice = bytes.subarray(start, end)
        hashed.push({ turn, length: slice.length })
        return slice
      },
    })
  const bytes = randomBytes(2 ** 20)
  const lending = new Proxy(store, {
    get: (target, name) => {
      const member: unknown = Reflect.get(target, name, target)
      if (typeof member !== 'function') return member
      if (name !== 'get') return member.bind(target) as unknown
      return async (key: string) => {
        const body = Object.assign(Readable.from([]), {
          lend: async function* () {
            yield await Promise.resolve(inOnePiece(bytes))
          },
        })
        return { ...(await target.stat(key)), body }
      }
    },
  })
  const many = processOn(lending)
  const ids = await Promise.all(
    Array.from({ length: 3 }, async () => {
      const { id } = await many.begin(app)
      await many.append(app, id, chunk(bytes))
      return id
    }),
  )
  count()
  try {
    await Promise.all(ids.map((id) => many.finish(app, id, digestOf(bytes, 'sha512'))))
  } finally {
    isOver = true
  }
  expect(hashed.map(({ length }) => length)).toEqual(Array<number>(12).fill(256 * 1024))
  expect(new Set(hashed.map(({ turn }) => turn)).size).toBe(12)
})

/** Puts these pieces into the record of an upload. */
async function withPieces(id: string, pieces: readonly object[]): Promise<void> {
  const leases = new Leases(store)
  const { run } = await leases.begin(id)
  // Without its hash, which was that of other pieces.
  await leases.update(run, ({ request: { repository, algorithm, takes }, ...lease }) => ({
    ...lease,
    request: { repository: repository!, algorithm: algorithm!, takes: takes!, pieces: pieces as [] },
  }))
}

it('an upload has so many chunks that its record holds them', async () => {
  const { id } = await uploads.begin(app)
  await uploads.append(app, id, chunk(Buffer.from('x')))
  const pieces = Array.from({ length: MAX_SERIES }, (_, at) => ({ data: numberedDataKey(id, 2 * at + 1_000), size: 1 }))
  for (const { data } of pieces) await store.put(data, Buffer.from('x'))
  for (const [many, bytes] of [
    [[{ ...pieces[0], count: MAX_PIECES }], MAX_PIECES],
    [pieces, MAX_SERIES],
  ] as const) {
    await withPieces(id, many)
    const before = await keysBelow(PREFIX.data)
    for (const more of [{}, { length: 1 }])
      await expect(uploads.append(app, id, chunk(Buffer.from('x'), more))).rejects.toMatchObject({
        code: 'limit_exceeded',
      })
    // What has no byte is no chunk.
    for (const more of [{}, { length: 0 }]) await uploads.append(app, id, chunk(Buffer.alloc(0), more))
    expect(await uploads.status(app, id)).toEqual({ id, bytes })
    expect(await keysBelow(PREFIX.data)).toEqual(before)
  }
  const all = 'x'.repeat(MAX_SERIES)
  await uploads.finish(app, id, digestOf(all), chunk(Buffer.alloc(0)))
  expect((await stored(digestOf(all))).toString()).toBe(all)
})

it('beyond a thousand chunks there is one for each 64 KiB, so that a pull opens few', async () => {
  const { id } = await uploads.begin(app)
  const small = { data: numberedDataKey(id, 1_000), size: 1, count: 999 }
  const large = { data: numberedDataKey(id, 3_000), size: 2 ** 16, count: 5 }
  await withPieces(id, [small, large])
  await uploads.append(app, id, chunk(Buffer.from('x')))
  const most = expect.stringContaining('the upload has 1005 chunks') as string
  await expect(uploads.append(app, id, chunk(Buffer.from('x')))).rejects.toMatchObject({
    code: 'limit_exceeded',
    message: most,
  })
  await expect(uploads.finish(app, id, digestOf('x'), chunk(Buffer.from('x'), { length: 1 }))).rejects.toMatchObject({
    message: most,
  })
})

it('very many small chunks of one size take few bytes of a record, and become the blob', async () => {
  const count = 990
  const bytes = randomBytes(count + 7)
  const digest = digestOf(bytes)
  const { id } = await uploads.begin(app)
  for (let at = 0; at < count; at++) await store.put(numberedDataKey(id, at + 1_000), bytes.subarray(at, at + 1))
  await withPieces(id, [{ data: numberedDataKey(id, 1_000), size: 1, count }])
  for (const at of [0, 2, 4])
    await uploads.append(app, id, chunk(bytes.subarray(count + at, count + at + 2), { start: count + at }))
  await uploads.finish(app, id, digest, chunk(bytes.subarray(count + 6)))
  expect(uploads.rehashed).toBe(count + 6)
  expect((await stored(digest)).equals(bytes)).toBe(true)
  const record = await new BlobStore(store).stat(digest)
  expect(record).toMatchObject({ pieces: [{ count }, { size: 2, count: 3 }, { size: 1 }] })
  expect(JSON.stringify(record).length).toBeLessThan(1_000)
  expect(uploads.chunkBytes).toBe(Math.ceil(2 ** 20 / MAX_PIECES))
})

it('no two requests write under one key: the number of one that was superseded is not used again', async () => {
  const { id } = await uploads.begin(app)
  const { promise: isHeld, resolve: held } = Promise.withResolvers<undefined>()
  const { promise: isReleased, resolve: release } = Promise.withResolvers<undefined>()
  async function* slow() {
    yield Buffer.from('late')
    held(undefined)
    await isReleased
  }
  const first = uploads.append(app, id, { source: slow() })
  first.catch(() => undefined)
  await isHeld
  for (const text of ['one', 'two']) await processOn(store).append(app, id, chunk(Buffer.from(text)))
  release(undefined)
  await expect(first).rejects.toMatchObject({ code: 'upload_interrupted' })
  const bytes = Buffer.from('onetwo')
  await uploads.finish(app, id, digestOf(bytes))
  expect((await stored(digestOf(bytes))).equals(bytes)).toBe(true)
  expect(await keysBelow(PREFIX.data)).toHaveLength(2)
})
