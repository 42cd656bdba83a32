import { ENTRY, TarEntry } from '@strata/archive'
import type { ImageLayer } from '@strata/images'
import { IndexBuilder } from '@strata/layers'
import { digestOf, type ChainId, type DiffId } from '@strata/oci'
import { keys, type ObjectStore } from '@strata/store'
import { temporaryStore } from '@strata/store/testing'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { Trees } from './trees.js'

let store: ObjectStore
let dispose: () => Promise<void>
beforeEach(async () => {
  const temporary = await temporaryStore()
  store = temporary.store
  dispose = temporary.dispose
})
afterEach(() => dispose())

const HERE = new AbortController().signal

/** The store, with all reads counted; those of a held key wait until it is let go. */
class HeldStore {
  readonly reads: string[] = []
  readonly #held = new Map<string, PromiseWithResolvers<undefined>>()
  readonly #begun = new Map<string, PromiseWithResolvers<undefined>>()

  /** Resolves when the first read has begun. */
  hold(key: string): Promise<void> {
    const begun = Promise.withResolvers<undefined>()
    this.#held.set(key, Promise.withResolvers())
    this.#begun.set(key, begun)
    return begun.promise
  }

  letGo(key: string, failure?: Error): void {
    if (failure) this.#held.get(key)!.reject(failure)
    else this.#held.get(key)!.resolve(undefined)
    this.#held.delete(key)
  }

  stat(key: string): ReturnType<ObjectStore['stat']> {
    return store.stat(key)
  }

  async read(key: string, maxBytes: number): ReturnType<ObjectStore['read']> {
    this.reads.push(key)
    this.#begun.get(key)?.resolve(undefined)
    await this.#held.get(key)?.promise
    return store.read(key, maxBytes)
  }
}

/** Makes no index: it waits until it is told to stop. */
class IdleIndexer {
  readonly calls: string[] = []
  readonly added = Promise.withResolvers<undefined>()
  readonly withdrawn = Promise.withResolvers<undefined>()

  readonly make = async (_layer: ImageLayer, signal: AbortSignal): Promise<never> => {
    this.calls.push('add')
    this.added.resolve(undefined)
    if (!signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
    this.calls.push('withdraw')
    this.withdrawn.resolve(undefined)
    throw signal.reason as Error
  }
}

const indexKey = (layer: ImageLayer): string => keys.index(layer.diffId)

function layer(name: string): ImageLayer {
  const diffId = digestOf(name) as string as DiffId
  return {
    digest: digestOf(name),
    diffId,
    chainId: diffId as string as ChainId,
    size: 1,
    mediaType: 'application/vnd.oci.image.layer.v1.tar',
  }
}

/** A layer whose index is in the store: one folder with a name of so many bytes. */
async function indexed(name: string, bytes = 10): Promise<ImageLayer> {
  const builder = new IndexBuilder()
  for (let left = bytes; left > 0; left -= 200) {
    const entry = Object.assign(new TarEntry(), {
      type: ENTRY.directory,
      mode: 0o755,
      path: Buffer.from(`${name}-${left}-`.padEnd(200, 'x')),
      link: Buffer.alloc(0),
      dataOffset: 512,
    })
    builder.entry(entry)
    builder.entryEnd()
  }
  const made = layer(name)
  await store.create(indexKey(made), builder.finish(1536).encode())
  return made
}

function treesOf(held: HeldStore, { indexer = new IdleIndexer(), mebibytes = 8 } = {}): Trees {
  return new Trees(held, indexer.make, mebibytes * 1024 * 1024)
}

it('an image whose index does not come keeps no other image waiting', async () => {
  const held = new HeldStore()
  const trees = treesOf(held)
  const [slow, fast] = [await indexed('slow'), await indexed('fast')]
  const begun = held.hold(indexKey(slow))
  const waiting = trees.stack([slow], HERE)
  await begun
  using open = await trees.stack([fast], HERE)
  expect(open.tree.layers).toHaveLength(1)
  // One that has no index yet neither.
  const making = new AbortController()
  const unmade = trees.stack([layer('unmade')], making.signal)
  using again = await trees.alone(fast, HERE)
  expect(again.tree.layers[0]).toBe(open.tree.layers[0])
  making.abort()
  await expect(unmade).rejects.toMatchObject({ code: 'cancelled' })
  held.letGo(indexKey(slow))
  using late = await waiting
  expect(late.tree.layers).toHaveLength(1)
})

it('who asks for a view that is being made waits for the same one; views that are made at once share their layers', async () => {
  const held = new HeldStore()
  const trees = treesOf(held)
  const both = await indexed('both')
  const begun = held.hold(indexKey(both))
  const asked = [trees.stack([both], HERE), trees.stack([both], HERE), trees.alone(both, HERE)]
  await begun
  held.letGo(indexKey(both))
  const [first, second, alone] = await Promise.all(asked)
  expect(second!.tree).toBe(first!.tree)
  expect(alone!.tree.layers[0]).toBe(first!.tree.layers[0])
  expect(held.reads).toEqual([indexKey(both)])
})

it('the making stops when the last who waits has left, not before, and takes its job along', async () => {
  const indexer = new IdleIndexer()
  const trees = treesOf(new HeldStore(), { indexer })
  const [one, other] = [new AbortController(), new AbortController()]
  const first = trees.stack([layer('unmade')], one.signal)
  const second = trees.stack([layer('unmade')], other.signal)
  await indexer.added.promise
  one.abort()
  await expect(first).rejects.toMatchObject({ code: 'cancelled' })
  expect(indexer.calls).toEqual(['add'])
  other.abort()
  await expect(second).rejects.toMatchObject({ code: 'cancelled' })
  await indexer.withdrawn.promise
  expect(indexer.calls).toEqual(['add', 'withdraw'])
  await expect(trees.stack([layer('unmade')], other.signal)).rejects.toMatchObject({ code: 'cancelled' })
})

it('a making that fails or is given up releases its memory', async () => {
  const held = new HeldStore()
  const trees = treesOf(held, { mebibytes: 1 })
  // Two of them have no room together.
  const [broken, left, whole] = [
    await indexed('broken', 350_000),
    await indexed('left', 350_000),
    await indexed('whole', 350_000),
  ]
  const brokenBegun = held.hold(indexKey(broken))
  const failing = trees.stack([broken], HERE)
  await brokenBegun
  const leftBegun = held.hold(indexKey(left))
  const gone = new AbortController()
  const leaving = trees.stack([left], gone.signal)
  held.letGo(indexKey(broken), new Error('the disk is broken'))
  await expect(failing).rejects.toThrow('the disk is broken')
  await leftBegun
  gone.abort()
  await expect(leaving).rejects.toMatchObject({ code: 'cancelled' })
  const last = trees.stack([whole], HERE)
  held.letGo(indexKey(left))
  using open = await last
  expect(open.tree.layers).toHaveLength(1)
  // It failed once, and is made anew now that there is room.
  open[Symbol.dispose]()
  using mended = await trees.stack([broken], HERE)
  expect(mended.tree.layers).toHaveLength(1)
  const tooMuch = trees.stack([broken, left, whole], HERE)
  await expect(tooMuch).rejects.toMatchObject({ code: 'limit_exceeded' })
})
