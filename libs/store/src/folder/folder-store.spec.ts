import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { objectStoreSuite } from '../testing/object-store-suite.js'
import { withoutAbilities } from '../testing/temporary-store.js'
import { mendTail } from '../mend-tail.js'
import { FolderStore } from './folder-store.js'

const quiet = { sync: () => Promise.resolve() }
const make = (abilities: boolean) => async () => {
  const root = mkdtempSync(join(tmpdir(), 'strata-store-'))
  const store = await FolderStore.open(root, mendTail, quiet)
  return {
    store: abilities ? store : withoutAbilities(store),
    leftovers: () =>
      Promise.resolve(readdirSync(join(root, 'tmp')).flatMap((name) => readdirSync(join(root, 'tmp', name)))),
    dispose: async () => {
      await store.close()
      rmSync(root, { recursive: true })
    },
  }
}
objectStoreSuite('folder', make(true))
objectStoreSuite('folder, its abilities unused', make(false))

describe('FolderStore', () => {
  let root: string
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'strata-store-'))
  })
  afterEach(() => rmSync(root, { recursive: true }))

  describe.each([
    ['no bytes', (path: string) => writeFileSync(path, '')],
    ['garbage', (path: string) => writeFileSync(path, '\0\xff')],
    ['a folder', (path: string) => (mkdirSync(path), writeFileSync(join(path, 'x'), ''))],
    ['a link to nowhere', (path: string) => symlinkSync('/nowhere', path)],
  ])('with %s in the place of a file of its own', (_, damage) => {
    it.each(['synced', 'synced.lock', 'synced.1234', 'tmp/garbage', 'locks/4c', 'objects/garbage'])(
      '%s: it opens, in this boot and the next, and keeps objects',
      async (name) => {
        const warnings: string[] = []
        for (const boot of ['one', 'one', 'two']) {
          const before = await FolderStore.open(root, mendTail, {
            ...quiet,
            boot,
            warn: (message) => warnings.push(message),
          })
          await before
            .put(`data/u/${warnings.length}${boot}${readdirSync(root).length}`, Buffer.from('x'))
            .catch(() => undefined)
          await before.close()
          rmSync(join(root, name), { recursive: true, force: true })
          damage(join(root, name))
        }
        const store = await FolderStore.open(root, mendTail, {
          ...quiet,
          boot: 'three',
          warn: (message) => warnings.push(message),
        })
        await store.put('data/u/last', Buffer.from('kept'))
        const etag = await store.create('records/r', Buffer.from('1'))
        expect(await store.replace('records/r', Buffer.from('2'), etag!)).toBeDefined()
        for (let n = 0; n < 300; n++) await store.create(`records/n${n}`, Buffer.from('1'))
        expect((await store.read('data/u/last', 10))!.bytes.toString()).toBe('kept')
        await store.close()
        expect(warnings.filter((line) => !line.includes(join(root, 'synced')))).toEqual([])
      },
    )
  })

  it.each(['objects', 'tmp', 'locks'])('%s that is a file: one sentence says which, and what to do', async (name) => {
    await (await FolderStore.open(root, mendTail, quiet)).close()
    rmSync(join(root, name), { recursive: true })
    writeFileSync(join(root, name), '')
    await expect(FolderStore.open(root, mendTail, quiet)).rejects.toMatchObject({
      code: 'store_unavailable',
      message: `${join(root, name)} is not a folder, or lies below what is none: move that away, or put the folder back that was there`,
    })
  })

  it('reads nothing of large objects for a list or a look', async () => {
    const store = await FolderStore.open(root, mendTail, quiet)
    const count = 300
    for (let n = 0; n < count; n++) {
      truncateSync(await store.createLocal(`data/u/${n}`), 300_000)
      await store.sealLocal(`data/u/${n}`)
    }
    /** Counts what this process reads, by any system call. */
    const bytesRead = (): number => Number(/^rchar: (\d+)$/m.exec(readFileSync('/proc/self/io', 'utf8'))?.[1])
    const before = bytesRead()
    const { objects } = await store.list('data/u/')
    for (const { key } of objects) await store.stat(key)
    expect(bytesRead() - before).toBeLessThan(1_000 * count)
    expect(objects.map(({ size }) => size)).toEqual(Array.from({ length: count }, () => 300_000))
    await store.close()
  })

  describe('leaves no empty folder behind', () => {
    const objects = () => readdirSync(join(root, 'objects'), { recursive: true })
    const b = Buffer.from('x')

    it('when its last object goes', async () => {
      const store = await FolderStore.open(root, mendTail, quiet)
      await store.put('data/u/a/b', b)
      await store.put('data/v', b)
      await store.delete(['data/u/a/b'])
      await expect.poll(objects).toEqual(['data', 'data/v'])
      await store.close()
    })

    it('when it is closed', async () => {
      const store = await FolderStore.open(root, mendTail, quiet)
      await store.put('data/u/a/b', b)
      await store.delete(['data/u/a/b'])
      await store.close()
      expect(objects()).toEqual([])
      expect(readdirSync(join(root, 'tmp'))).toEqual([])
    })

    it('and who finds a name taken does not wait for that', async () => {
      vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
      try {
        const store = await FolderStore.open(root, mendTail, quiet)
        await store.create('uploads/taken', b)
        await store.put('data/u/a/b', b)
        await store.delete(['data/u/a/b'])
        expect(await store.create('uploads/taken', b)).toBeUndefined()
        expect(objects()).toContain('data/u/a')
        await store.close()
        expect(objects().map(String).sort()).toEqual(['uploads', 'uploads/taken'])
      } finally {
        vi.useRealTimers()
      }
    })

    it('of a process that died before it removed one, when a list comes to it', async () => {
      const store = await FolderStore.open(root, mendTail, quiet)
      mkdirSync(join(root, 'objects/data/left/by/the'), { recursive: true })
      mkdirSync(join(root, 'objects/data/other'), { recursive: true })
      expect((await store.list('data/l')).objects).toEqual([])
      await expect.poll(objects).toEqual(['data', 'data/other'])
      await store.close()
    })

    it('while others make objects in them', async () => {
      const [one, other] = [
        await FolderStore.open(root, mendTail, quiet),
        await FolderStore.open(root, mendTail, quiet),
      ]
      const removed = Array.from({ length: 1_500 }, (_, n) => `data/${n % 7}/${n % 5}/${n}`)
      for (const key of removed) {
        await one.put(key, b)
        await one.delete([key])
        if (Number(key.split('/').at(-1)) % 10 === 0) await other.put(`${key}-stays`, b)
      }
      await one.close()
      await other.close()
      const left = objects().filter((path) => statSync(join(root, 'objects', String(path))).isFile())
      expect(left).toHaveLength(150)
    })
  })

  it('removes what a process that died left, and nothing of one that lives', async () => {
    const alive = await FolderStore.open(root, mendTail, quiet)
    const [mine] = readdirSync(join(root, 'tmp'))
    mkdirSync(join(root, 'tmp', 'of-the-dead'))
    writeFileSync(join(root, 'tmp', 'of-the-dead', '0'), 'half an object')
    const second = await FolderStore.open(root, mendTail, quiet)
    const folders = readdirSync(join(root, 'tmp'))
    expect(folders).toHaveLength(2)
    expect(folders).toContain(mine)
    await alive.put('data/u/1', Buffer.from('still writes'))
    await second.close()
    await alive.close()
  })

  it('gives files to write in place, read-only once sealed', async () => {
    const store = await FolderStore.open(root, mendTail, quiet)
    const path = await store.createLocal('data/u/1')
    await expect(store.createLocal('data/u/1')).rejects.toMatchObject({ code: 'internal' })
    writeFileSync(path, 'written by a thread', { flag: 'r+' })
    const info = await store.sealLocal('data/u/1')
    expect(info.size).toBe(19)
    expect(statSync(path).mode & 0o777).toBe(0o444)
    expect((await store.read('data/u/1', 100))?.bytes.toString()).toBe('written by a thread')
    expect(store.localPath('data/u/1')).toBe(path)
    await store.close()
  })

  it('refuses a second put to a key, and keeps the first', async () => {
    const store = await FolderStore.open(root, mendTail, quiet)
    await store.put('data/u/1', Buffer.from('first'))
    await expect(store.put('data/u/1', Buffer.from('second'))).rejects.toMatchObject({ code: 'internal' })
    expect((await store.read('data/u/1', 100))?.bytes.toString()).toBe('first')
    await store.close()
  })

  it('removes a record only if it is unchanged', async () => {
    const store = await FolderStore.open(root, mendTail, quiet)
    const first = (await store.create('uploads/a', Buffer.from('1')))!
    const second = (await store.replace('uploads/a', Buffer.from('2'), first))!
    expect(await store.removeUnchanged('uploads/a', first)).toBe(false)
    expect(await store.removeUnchanged('uploads/a', second)).toBe(true)
    expect(await store.removeUnchanged('uploads/a', second)).toBe(false)
    expect((await store.list('')).objects).toEqual([])
    await store.close()
  })

  it('looks at objects for 5 ms in a turn of the event loop, however many callers list', async () => {
    const store = await FolderStore.open(root, mendTail, quiet)
    for (let at = 0; at < 50; at++) await store.create(`images/${at}`, Buffer.from('x'))
    let [turn, isOver, ms] = [0, false, 0]
    const spent = new Map<number, number>()
    const count = (): void => {
      turn++
      if (!isOver) setImmediate(count)
    }
    // A look at the clock takes 1 ms, and each look at an object has two.
    const clock = vi.spyOn(performance, 'now').mockImplementation(() => {
      spent.set(turn, (spent.get(turn) ?? 0) + 1)
      return ms++
    })
    count()
    try {
      const pages = await Promise.all(Array.from({ length: 6 }, () => store.list('images/')))
      for (const { objects } of pages) expect(objects).toHaveLength(50)
    } finally {
      clock.mockRestore()
      isOver = true
    }
    expect(ms).toBeGreaterThanOrEqual(600)
    expect(Math.max(...spent.values())).toBeLessThanOrEqual(12)
    await store.close()
  })

  it('says that a folder cannot be used', async () => {
    writeFileSync(join(root, 'file'), '')
    await expect(FolderStore.open(join(root, 'file'), mendTail, quiet)).rejects.toMatchObject({
      code: 'store_unavailable',
    })
  })

  it('loses no increment of four processes at once', async () => {
    const store = await FolderStore.open(root, mendTail, quiet)
    await store.create('uploads/counter', Buffer.from('0'))
    const program = new URL('../testing/increment.mjs', import.meta.url).pathname
    const children = Array.from({ length: 4 }, () =>
      spawn(
        process.execPath,
        [
          '--experimental-transform-types',
          '--conditions=@strata/source',
          '--no-warnings',
          program,
          root,
          'uploads/counter',
          '50',
        ],
        { stdio: ['ignore', 'ignore', 'inherit'] },
      ),
    )
    const codes = await Promise.all(children.map(async (child) => ((await once(child, 'exit')) as [number])[0]))
    expect(codes).toEqual([0, 0, 0, 0])
    expect((await store.read('uploads/counter', 10))?.bytes.toString()).toBe('200')
    await store.close()
    expect(readdirSync(join(root, 'tmp'))).toEqual([])
  }, 60_000)
})
