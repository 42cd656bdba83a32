import { spawn, type ChildProcessByStdio } from 'node:child_process'
import { once } from 'node:events'
import {
  cpSync,
  linkSync,
  lutimesSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import type { FolderEvent } from '@strata/linux'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { listAll } from '../objects/object-store.js'
import { mendTail } from '../mend-tail.js'
import { FolderStore } from './folder-store.js'
import { Listing } from './listing.js'

/** Entries of folders that were read, what happens meanwhile, and what is wrong with inotify. */
const world = vi.hoisted(() => ({
  entries: 0,
  onRead: undefined as (() => void) | undefined,
  /** A name that this reading does not have. */
  misses: (): string | undefined => undefined,
  reading: 0,
  mostReading: 0,
  fails: undefined as 'init' | 'add' | 'read' | 'silent' | undefined,
  /** Events come so many reads late. */
  late: 0,
}))
const asRead = vi.hoisted(() => <Entry extends { readonly name: unknown }>(entries: Entry[]): Entry[] => {
  world.entries += entries.length
  world.onRead?.()
  const missed = world.misses()
  return missed === undefined ? entries : entries.filter((entry) => entry.name !== missed)
})
vi.mock('node:fs/promises', async (original) => {
  const real = await original<typeof import('node:fs/promises')>()
  const readdir = async (...args: Parameters<typeof real.readdir>) => {
    world.mostReading = Math.max(world.mostReading, ++world.reading)
    return asRead(await real.readdir(...args).finally(() => world.reading--))
  }
  return { ...real, readdir }
})
// Small folders are read in the calling thread.
vi.mock('./walk.js', async (original) => {
  const real = await original<typeof import('./walk.js')>()
  const namesNow = (path: string) => asRead(real.namesNow(path).map((name) => ({ name }))).map(({ name }) => name)
  return { ...real, namesNow }
})
vi.mock('@strata/linux', async (original) => {
  const real = await original<typeof import('@strata/linux')>()
  class FailingWatch extends real.FolderWatch {
    readonly #late: FolderEvent[][] = []
    constructor() {
      if (world.fails === 'init') throw new real.SystemError('EMFILE', 24, 'inotify_init1', '')
      super()
    }
    override add(folder: string): number {
      if (world.fails === 'add') throw new real.SystemError('ENOSPC', 28, 'inotify_add_watch', folder)
      return super.add(folder)
    }
    override read(): FolderEvent[] {
      if (world.fails === 'read') throw new real.SystemError('EIO', 5, 'read of inotify', '')
      this.#late.push(super.read())
      const events = this.#late.splice(0, this.#late.length - world.late).flat()
      return world.fails === 'silent' ? [] : events
    }
  }
  return { ...real, FolderWatch: FailingWatch }
})

/** More than a folder has that is not held. */
const MANY = 520
const TAGS = 'images/h.example/a/_tags/'

let root: string
let warnings: string[]
let opened: Set<{ close(): unknown }>
let children: ReturnType<typeof spawn>[]
beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), 'strata-listing-'))
  warnings = []
  opened = new Set()
  children = []
  // The first of a boot drops what an earlier one may not have finished.
  await close(await open())
})
afterEach(async () => {
  world.fails = undefined
  world.onRead = undefined
  world.misses = () => undefined
  world.late = 0
  for (const child of children) if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL')
  for (const store of opened) await close(store)
  rmSync(root, { recursive: true })
})

const warn = (message: string) => void warnings.push(message)
async function open(): Promise<FolderStore> {
  const sync = () => Promise.resolve()
  const store = await FolderStore.open(root, mendTail, { sync, boot: 'test', warn })
  opened.add(store)
  return store
}
async function close(store: { close(): unknown }): Promise<void> {
  opened.delete(store)
  await store.close()
}
const path = (key: string) => join(root, 'objects', key)
/** As anybody writes who knows nothing of lists: an older release, a restore. */
function plant(key: string): void {
  mkdirSync(dirname(path(key)), { recursive: true })
  writeFileSync(path(key), key)
}
const nth = (n: number, prefix = TAGS) => `${prefix}v${String(n).padStart(6, '0')}`
function plantMany(count = MANY, prefix = TAGS): void {
  plant(nth(0, prefix))
  // One file with many names is quicker than many files.
  for (let n = 1; n < count; n++) linkSync(path(nth(0, prefix)), path(nth(n, prefix)))
}
/** The keys of all files, by a look at the folder. */
function truth(prefix = ''): string[] {
  const folder = join(root, 'objects')
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .filter((key) => key.startsWith(prefix))
    .sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
}
async function keysOf(store: FolderStore, prefix = ''): Promise<string[]> {
  const keys: string[] = []
  for await (const { key } of listAll(store, prefix)) keys.push(key)
  return keys
}
async function paged(store: FolderStore, prefix: string, limit: number): Promise<string[]> {
  const keys: string[] = []
  for (let after: string | undefined; ;) {
    const page = await store.list(prefix, { limit, ...(after === undefined ? {} : { after }) })
    keys.push(...page.objects.map(({ key }) => key))
    if (page.next === undefined) return keys
    after = page.next
  }
}
/** How many entries of folders a page of the list reads. */
async function cost(store: FolderStore, prefix = `${TAGS}v`): Promise<number> {
  world.entries = 0
  await store.list(prefix, { limit: 10 })
  return world.entries
}
/** Lists once: from then on the large folder of tags is held. */
async function held(store: FolderStore): Promise<FolderStore> {
  expect(await keysOf(store)).toEqual(truth())
  expect(await cost(store)).toBe(0)
  return store
}

describe('a page of a folder store', () => {
  it('reads as many entries among 20,000 names as among few', async () => {
    const most: Record<string, number> = {}
    for (const count of [10, 20_000]) {
      const prefix = `images/of-${count}/_tags/`
      plantMany(count, prefix)
      const store = await open()
      await store.list(prefix, { limit: 1 })
      world.entries = 0
      for (const after of [0, 5, count / 2, count - 6]) {
        const { objects } = await store.list(prefix, { limit: 5, after: nth(after, prefix) })
        expect(objects.map(({ key }) => key)).toEqual(
          [1, 2, 3, 4, 5].map((n) => nth(after + n, prefix)).filter((key) => key < nth(count, prefix)),
        )
      }
      await store.put(`${prefix}w`, Buffer.from('x'))
      await store.delete([nth(7, prefix)])
      const page = await store.list(prefix, { limit: 100, after: nth(5, prefix) })
      expect(page.objects[1]!.key).toBe(nth(8, prefix))
      most[count] = world.entries
    }
    expect(most[20_000]).toBeLessThanOrEqual(most[10]!)
  }, 60_000)

  it('has the order of bytes among all characters that a key may have, in files and folders', async () => {
    const letters = "ABYZabyz0189._:@+=,!'()*~-"
    let seed = 7
    const random = (below: number) => (seed = (seed * 48_271) % 2_147_483_647) % below
    const word = () => Array.from({ length: 1 + random(5) }, () => letters[random(letters.length)]).join('')
    for (let n = 0; n < 2 * MANY; n++) {
      const [a, b] = [word(), word()]
      if ([a, b].some((name) => name === '.' || name === '..')) continue
      try {
        plant(random(3) === 0 ? `data/${a}/${b}` : `data/${a}`)
      } catch {
        // A file and a folder of one name: no store has both.
      }
    }
    plant(`data/${'n'.repeat(255)}`)
    const store = await open()
    const all = truth()
    for (let n = 0; n < 3; n++) expect(await keysOf(store)).toEqual(all)
    expect(await paged(store, '', 13)).toEqual(all)
    for (let n = 0; n < 300; n++) {
      const prefix = all[random(all.length)]!.slice(0, 5 + random(8))
      const after = random(2) === 0 ? all[random(all.length)]! : `data/${word()}`
      const wanted = all.filter((key) => key.startsWith(prefix) && key > after)
      const { objects, next } = await store.list(prefix, { after, limit: 5 })
      expect(objects.map(({ key }) => key)).toEqual(wanted.slice(0, 5))
      expect(next !== undefined).toBe(wanted.length > 5)
    }
  }, 60_000)
})

describe('what a store writes is listed by itself and by every other that is open', () => {
  it.each(['the same store', 'another process'])(
    '%s',
    async (who) => {
      plantMany()
      for (let n = 0; n < MANY; n++) plant(`data/l${n}/x`)
      const reader = await held(await open())
      const child = who === 'another process' ? await start() : undefined
      const change = async (method: 'create' | 'put' | 'replace' | 'delete', key: string, text = 'x') => {
        if (child) expect(await child.change(method, key, text)).not.toHaveProperty('error')
        else if (method === 'create') await reader.create(key, Buffer.from(text))
        else if (method === 'put') await reader.put(key, Buffer.from(text))
        else if (method === 'delete') await reader.delete([key])
        else await reader.replace(key, Buffer.from(text), (await reader.stat(key))!.etag)
        expect(await keysOf(reader)).toEqual(truth())
        expect(await cost(reader)).toBe(0)
      }
      await change('create', `${TAGS}new`)
      await change('create', `${TAGS}new`)
      await change('replace', `${TAGS}new`, 'other')
      await change('delete', nth(100))
      await change('delete', nth(100))
      await change('create', nth(100))
      await change('put', 'data/new/x')
      await change('put', 'data/new/y')
      await change('delete', 'data/new/x')
      await change('delete', 'data/new/y')
      await change('delete', 'data/l300/x')
      await change('put', 'data/l300/x')
      const local = await reader.createLocal('data/local/x')
      writeFileSync(local, 'x')
      await reader.sealLocal('data/local/x')
      expect(await keysOf(reader)).toEqual(truth())
      expect(await cost(reader, 'data/l1')).toBeLessThan(20) // Ten folders of one entry, not all 520.
      await child?.end()
    },
    60_000,
  )

  it('pages of four processes that write: none misses what stays, and each finished write is in the next list', async () => {
    plantMany()
    const stays = truth(TAGS)
    const store = await held(await open())
    const writers = await Promise.all(Array.from({ length: 4 }, () => start()))
    const over = new AbortController()
    const work = writers.map(async (writer, at) => {
      for (let n = 0; n < 20; n++) {
        const key = `${TAGS}w${at}-${n}`
        await writer.change('create', key, 'x')
        expect((await store.list(key)).objects.map((object) => object.key)).toContain(key)
        await writer.change('create', `${TAGS}shared`, String(n))
        if (n % 3 === 0) await writer.change('delete', key, '')
        if (n % 3 === 0) expect((await store.list(key)).objects.filter((one) => one.key === key)).toEqual([])
        await writer.change('delete', `${TAGS}shared`, '')
      }
    })
    const paging = (async () => {
      do {
        const keys = await paged(store, TAGS, 97)
        expect(keys.filter((key) => key.startsWith(`${TAGS}v`))).toEqual(stays)
        expect(keys).toEqual([...keys].sort())
      } while (!over.signal.aborted)
    })()
    await Promise.all(work).finally(() => over.abort())
    await paging
    expect(await keysOf(store)).toEqual(truth())
    await Promise.all(writers.map((writer) => writer.end()))
    expect(await keysOf(await open())).toEqual(truth())
  }, 120_000)

  it('a folder that becomes held while others write misses nothing', async () => {
    plantMany()
    const writers = await Promise.all([open(), open(), open()])
    await Promise.all(
      writers.map(async (writer, at) => {
        for (let n = 0; n < 60; n++) {
          const key = `${TAGS}w${at}-${n}`
          await writer.create(key, Buffer.from('x'))
          const reader = await open()
          for (let list = 0; list < 3; list++) expect((await reader.list(key, { limit: 1 })).objects[0]?.key).toBe(key)
          await close(reader)
        }
      }),
    )
    expect(await keysOf(await open())).toEqual(truth())
  }, 60_000)

  it.each([
    ['few', 40],
    ['many', MANY],
  ])('a change while a folder of %s names is read is in that list', async (_, count) => {
    plantMany(count)
    const store = await open()
    let changes = 0
    world.onRead = () => {
      // Between the reading and the look at the events.
      linkSync(path(nth(0)), path(`${TAGS}w${changes}`))
      unlinkSync(path(nth(++changes)))
    }
    const keys = await keysOf(store, TAGS)
    world.onRead = undefined
    // Twice, if the folder was planted long enough ago to be read without a watch first.
    expect(changes).toBeGreaterThan(0)
    expect(keys).toEqual(truth(TAGS))
    expect(await cost(store)).toBe(count === MANY ? 0 : count)
    expect(await keysOf(store, TAGS)).toEqual(truth(TAGS))
  })

  /**
   * As on btrfs: a file that is renamed over gets a new place at the folder's end, where this
   * reading does not go any more.
   */
  const replacedWhileRead = (number: number) => {
    writeFileSync(join(root, 'next'), 'x')
    renameSync(join(root, 'next'), path(nth(number)))
    return nth(number).slice(TAGS.length)
  }
  it.each([
    ['few', 40],
    ['many', MANY],
  ])('a file that is replaced while a folder of %s names is read is not missed', async (_, count) => {
    plantMany(count)
    const store = await open()
    world.misses = () => replacedWhileRead(7)
    for (let n = 0; n < 3; n++) expect(await keysOf(store, TAGS)).toEqual(truth(TAGS))
  })

  it('a small folder that did not change lately is read once, without a watch, and again if it changes meanwhile', async () => {
    plantMany(40)
    const store = await open()
    world.fails = 'add'
    const now = Date.now() + 1_000
    const clock = vi.spyOn(Date, 'now').mockReturnValue(now)
    try {
      expect(await cost(store)).toBe(40)
      expect(warnings).toEqual([])
      world.fails = undefined
      let changes = 0
      world.onRead = () => {
        if (++changes > 1) return
        linkSync(path(nth(0)), path(`${TAGS}w`))
        unlinkSync(path(nth(1)))
      }
      expect(await keysOf(store, TAGS)).toEqual(truth(TAGS))
      expect(changes).toBe(2)
    } finally {
      clock.mockRestore()
    }
  })

  it('nor if events are lost meanwhile, or no watch is allowed', async () => {
    plantMany(40)
    plant(`${TAGS}churn0`)
    const store = await open()
    let readings = 0
    world.misses = () => {
      const name = replacedWhileRead(++readings)
      if (readings === 1)
        // Two events each; the kernel queues 16,384.
        for (let n = 0; n < 8_500; n++) renameSync(path(`${TAGS}churn${n % 2}`), path(`${TAGS}churn${(n + 1) % 2}`))
      return name
    }
    expect(await keysOf(store, TAGS)).toEqual(truth(TAGS))
    expect(readings).toBe(2)
    world.fails = 'add'
    expect(await keysOf(store, TAGS)).toEqual(truth(TAGS))
    expect(readings).toBeGreaterThan(3)
  }, 60_000)
})

describe('a process that dies in the middle of a change', () => {
  // A second after the changes. The first rmdir takes the folder, the second finds the one above
  // it not empty.
  const points = ['linkSync,1,before', 'linkSync,1,after', 'renameSync,1,after', 'mkdirSync,1,after', 'rmdir,2,after']
  it.each(points)(
    '%s',
    async (point) => {
      plantMany()
      plantMany(MANY, 'data/l')
      plant('data/old/x')
      const alive = await held(await open())
      const child = await start(point)
      for (const [method, key] of [
        ['create', `${TAGS}new`],
        ['replace', nth(3)],
        ['delete', nth(4)],
        ['put', 'data/new/x'],
        ['delete', 'data/old/x'],
      ] as const) {
        const answer = await child.change(method, key, 'x')
        expect(await keysOf(alive)).toEqual(truth())
        if (answer === 'SIGKILL') break
      }
      expect(await child.ended).toBe('SIGKILL')
      expect(await keysOf(alive)).toEqual(truth())
      await alive.create(`${TAGS}afterwards`, Buffer.from('x'))
      await alive.put('data/afterwards/x', Buffer.from('x'))
      expect(await keysOf(alive)).toEqual(truth())
      expect(await cost(alive)).toBe(0)
      expect(await keysOf(await open())).toEqual(truth())
    },
    60_000,
  )
})

describe('a change that no store made is in the next list', () => {
  const folder = () => path(TAGS)
  /** A copy of the folder with all its times, one name less. */
  const backup = () => {
    const copy = join(root, 'backup')
    cpSync(folder(), copy, { recursive: true, preserveTimestamps: true })
    unlinkSync(join(copy, readdirSync(copy).at(-1)!))
    const { atimeMs, mtimeMs } = statSync(folder())
    utimesSync(copy, atimeMs / 1000, mtimeMs / 1000)
    return copy
  }
  const restored = (above: string) => () => {
    const copy = backup()
    const rest = folder().slice(path(above).length)
    mkdirSync(dirname(join(root, 'next', rest)), { recursive: true })
    renameSync(copy, join(root, 'next', rest))
    renameSync(path(above), join(root, 'last'))
    renameSync(join(root, 'next'), path(above))
  }
  it.each<[string, () => void]>([
    ['a file that an older release wrote', () => linkSync(path(nth(1)), path(`${TAGS}new`))],
    ['a file that an older release deleted', () => unlinkSync(path(nth(1)))],
    ['a folder that an older release made', () => plant(`${TAGS}folder/x`)],
    ['a name that was changed', () => renameSync(path(nth(1)), path(`${TAGS}w`))],
    ['a file in the place of another', () => renameSync(path(nth(1)), path(nth(2)))],
    [
      'a file that became a folder, and a folder that became a file',
      () => {
        plant(`${TAGS}odd/x`)
        rmSync(path(nth(1)))
        plant(`${nth(1)}/x`)
        rmSync(path(`${TAGS}odd`), { recursive: true })
        plant(`${TAGS}odd`)
      },
    ],
    [
      'a file that was deleted and made again',
      () => {
        for (let n = 0; n < 3; n++) {
          unlinkSync(path(nth(1)))
          linkSync(path(nth(2)), path(nth(1)))
        }
      },
    ],
    [
      'a change after which the folder has its old time',
      () => {
        const { atimeMs, mtimeMs } = statSync(folder())
        linkSync(path(nth(1)), path(`${TAGS}new`))
        unlinkSync(path(nth(2)))
        utimesSync(folder(), atimeMs / 1000, mtimeMs / 1000)
      },
    ],
    [
      'a change while the clock is years behind, or ahead',
      () => {
        utimesSync(folder(), 1e9, 1e9)
        linkSync(path(nth(1)), path(`${TAGS}new`))
        utimesSync(folder(), 4e9, 4e9)
        linkSync(path(nth(1)), path(`${TAGS}w`))
        lutimesSync(folder(), 1e9, 1e9)
      },
    ],
    ['a restored folder with the times of its backup', restored(TAGS)],
    ['a restored folder above it', restored('images')],
    [
      'a folder that was deleted and copied back',
      () => {
        const copy = backup()
        rmSync(folder(), { recursive: true })
        cpSync(copy, folder(), { recursive: true, preserveTimestamps: true })
        rmSync(copy, { recursive: true })
      },
    ],
    [
      'a change in a folder that was moved away and back',
      () => {
        renameSync(folder(), join(root, 'away'))
        linkSync(join(root, 'away/v000001'), join(root, 'away/new'))
        unlinkSync(join(root, 'away/v000002'))
        renameSync(join(root, 'away'), folder())
      },
    ],
    [
      'a folder that was moved away behind a link',
      () => {
        renameSync(folder(), join(root, 'away'))
        symlinkSync(join(root, 'away'), folder().slice(0, -1))
        linkSync(join(root, 'away/v000001'), join(root, 'away/new'))
      },
    ],
    ['a folder that is gone', () => rmSync(folder(), { recursive: true })],
    [
      'a folder that is gone, with a file in the place of the one above it, and back',
      () => {
        renameSync(path('images'), join(root, 'away'))
        writeFileSync(path('images'), '')
        rmSync(path('images'))
        renameSync(join(root, 'away'), path('images'))
        linkSync(path(nth(1)), path(`${TAGS}new`))
      },
    ],
  ])(
    '%s',
    async (_, change) => {
      plantMany()
      const [one, two] = [await held(await open()), await held(await open())]
      // Right behind one of ours: within one tick of the clock.
      await one.create(`${TAGS}ours`, Buffer.from('x'))
      change()
      const isLink =
        statSync(folder(), { throwIfNoEntry: false }) &&
        readdirSync(dirname(folder()), { withFileTypes: true })[0]!.isSymbolicLink()
      // `truth` follows no link.
      const expected = isLink
        ? readdirSync(folder())
            .sort()
            .map((name) => TAGS + name)
        : truth(TAGS)
      for (const store of [two, one, await open(), two]) expect(await keysOf(store, TAGS)).toEqual(expected)
      await one.create(`${TAGS}more`, Buffer.from('x'))
      for (const store of [one, two]) expect(await paged(store, TAGS, 200)).toEqual([...expected, `${TAGS}more`].sort())
    },
    60_000,
  )

  it('one in the same tick as each of ours', async () => {
    plantMany()
    const store = await held(await open())
    for (let n = 0; n < 200; n++) {
      await store.create(`${TAGS}ours-${n}`, Buffer.from('x'))
      linkSync(path(nth(1)), path(`${TAGS}theirs-${n}`))
      expect((await store.list(`${TAGS}theirs-${n}`)).objects[0]?.key).toBe(`${TAGS}theirs-${n}`)
    }
    expect(await cost(store)).toBe(0)
  }, 60_000)

  it('more of them than the kernel queues', async () => {
    plantMany()
    const store = await held(await open())
    // Two events each; the kernel queues 16,384.
    for (let n = 0; n < 8_500; n++)
      renameSync(path(n === 0 ? nth(3) : `${TAGS}churn${n % 2}`), path(`${TAGS}churn${(n + 1) % 2}`))
    linkSync(path(nth(1)), path(`${TAGS}last`))
    unlinkSync(path(nth(2)))
    expect(await keysOf(store)).toEqual(truth())
    expect(await keysOf(store)).toEqual(truth())
    expect(await cost(store)).toBe(0)
  }, 60_000)
})

describe('where the machine does not tell of changes, the folder is read', () => {
  it.each(['init', 'add'] as const)('no watch is allowed (%s)', async (fails) => {
    plantMany()
    world.fails = fails
    const store = await open()
    for (let n = 0; n < 4; n++) {
      expect(await keysOf(store)).toEqual(truth())
      await store.create(`${TAGS}w${n}`, Buffer.from('x'))
      await store.delete([nth(n)])
    }
    // Until its time says that no name changed meanwhile.
    await expect.poll(() => cost(store)).toBe(MANY)
    // No reading is shared.
    const readingAtOnce = async () => {
      world.mostReading = 0
      await Promise.all([keysOf(store), keysOf(store)])
      return world.mostReading
    }
    await expect.poll(readingAtOnce).toBe(2)
    expect(warnings).toEqual([expect.stringMatching(/cannot be watched \(inotify_\w+: (EMFILE|ENOSPC).*max_user_/)])
    // It is tried again.
    world.fails = undefined
    await held(store)
  })

  it('its events cannot be read', async () => {
    plantMany()
    const store = await held(await open())
    world.fails = 'read'
    for (let n = 0; n < 3; n++) {
      linkSync(path(nth(0)), path(`${TAGS}w${n}`))
      expect(await keysOf(store)).toEqual(truth())
    }
    expect(warnings).toHaveLength(1)
    world.fails = undefined
    await held(store)
  })

  it('its events come late: the names stay held', async () => {
    plantMany()
    const store = await held(await open())
    world.late = 2
    for (let n = 0; n < 3; n++) {
      linkSync(path(nth(0)), path(`${TAGS}w${n}`))
      expect(await cost(store)).toBe(0)
      expect(await keysOf(store)).toEqual(truth())
    }
  })

  it('it tells of none, but the folder has another time', async () => {
    plantMany()
    const store = await held(await open())
    world.fails = 'silent'
    for (let n = 0; n < 3; n++) {
      utimesSync(path(TAGS), 2e9 + n, 2e9 + n)
      expect(await cost(store)).toBeGreaterThanOrEqual(MANY)
      expect(await keysOf(store)).toEqual(truth())
      linkSync(path(nth(0)), path(`${TAGS}w${n}`))
      expect(await keysOf(store)).toEqual(truth())
    }
  })
})

describe('Listing', () => {
  const listing = (options: { maxBytes?: number; idleMs?: number }) => {
    const made = new Listing(join(root, 'objects'), { warn, ...options })
    opened.add(made)
    return made
  }
  const namesOf = async (from: Listing, folder: string) => {
    const names: string[] = []
    for await (const part of from.names(folder, '')) names.push(...part)
    return names
  }
  const read = async (from: Listing, folder: string) => {
    world.entries = 0
    const names = await namesOf(from, folder)
    expect(names).toEqual(readdirSync(path(folder)).sort())
    return world.entries
  }
  /** What the names of `plantMany` take. */
  const BYTES = MANY * (7 + 32)

  it('holds no folder beyond its bound of bytes, and forgets the one that was listed longest ago', async () => {
    for (const folder of ['a/', 'b/', 'c/']) plantMany(MANY, folder)
    const two = listing({ maxBytes: 2.5 * BYTES })
    for (const folder of ['a/', 'b/']) await read(two, folder)
    expect([await read(two, 'b/'), await read(two, 'a/')]).toEqual([0, 0])
    expect(await read(two, 'c/')).toBe(MANY)
    expect([await read(two, 'c/'), await read(two, 'a/')]).toEqual([0, 0])
    expect(await read(two, 'b/')).toBe(MANY)
    // What is held grows by what others write.
    for (let n = 0; n < MANY; n++) plant(`a/w${n}`)
    expect(await read(two, 'a/')).toBe(0)
    for (let n = 0; n < MANY; n++) plant(`a/x${n}`)
    for (let n = 0; n < 3; n++) expect(await read(two, 'a/')).toBe(3 * MANY)
    const none = listing({ maxBytes: BYTES - 1 })
    for (let n = 0; n < 3; n++) expect(await read(none, 'b/')).toBe(MANY)
  })

  it('holds at most 64 folders', async () => {
    const folders = Array.from({ length: 65 }, (_, n) => `f${n}/`)
    for (const folder of folders) plantMany(MANY, folder)
    const one = listing({})
    for (const folder of folders) await read(one, folder)
    expect([await read(one, 'f64/'), await read(one, 'f1/'), await read(one, 'f0/')]).toEqual([0, 0, MANY])
  }, 60_000)

  it('forgets a folder that nobody lists', async () => {
    plantMany(MANY, 'a/')
    const one = listing({ idleMs: 1 })
    await read(one, 'a/')
    await expect.poll(() => read(one, 'a/')).toBe(MANY)
  })

  it('gives up what it reads when it is closed meanwhile', async () => {
    plantMany(MANY, 'a/')
    const one = listing({})
    world.onRead = () => void close(one)
    expect(await read(one, 'a/')).toBeGreaterThan(MANY)
    world.onRead = undefined
    expect(await read(one, 'a/')).toBeGreaterThanOrEqual(MANY)
  })

  it.each([
    ['that is held then', {}],
    ['that is too large to be held', { maxBytes: 1 }],
  ])('reads a folder %s once for lists that come at the same time', async (_, options) => {
    plantMany(MANY, 'a/')
    const one = listing(options)
    world.entries = 0
    const all = await Promise.all(Array.from({ length: 10 }, () => namesOf(one, 'a/')))
    for (const names of all) expect(names).toEqual(readdirSync(path('a/')).sort())
    expect(world.entries).toBe(MANY)
  })
})

interface Changer {
  /** The answer, or how the process ended instead. */
  change(method: string, key: string, text: string): Promise<unknown>
  /** Its exit code, or the signal that ended it. */
  readonly ended: Promise<unknown>
  end(): Promise<void>
}

/** A process that changes the store (testing/changes.mjs). */
async function start(diesAt?: string): Promise<Changer> {
  const program = new URL('../testing/changes.mjs', import.meta.url).pathname
  const child: ChildProcessByStdio<Writable, Readable, null> = spawn(
    process.execPath,
    [
      '--experimental-transform-types',
      '--conditions=@strata/source',
      '--no-warnings',
      program,
      root,
      ...(diesAt === undefined ? [] : [diesAt]),
    ],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  )
  children.push(child)
  const ended = once(child, 'exit').then(([code, signal]: unknown[]) => signal ?? code)
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  expect((await lines.next()).value).toBe('ready')
  child.stdin.on('error', () => undefined)
  return {
    ended,
    change: async (method, key, text) => {
      child.stdin.write(`${JSON.stringify([method, key, text])}\n`)
      const { value, done } = await lines.next()
      return done ? await ended : ((JSON.parse(value) as unknown) ?? {})
    },
    end: async () => {
      child.stdin.end()
      expect(await ended).toBe(0)
    },
  }
}
