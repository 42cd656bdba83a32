import { execFileSync } from 'node:child_process'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  realpathSync,
  rmdirSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { concat, file, fixtureListing, header, ODD_STACKS, pax, paxHeader, ZEROS } from '@strata/archive/testing'
import { makePrivateMount, mount, MNT_DETACH, mountAt, MS_BIND, umount } from '@strata/linux'
import { FAILPOINT_CHANNEL, StrataError } from '@strata/base'
import { chainIdOf, IMAGE_LIMITS, type ChainId, type DiffId } from '@strata/oci'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Layout } from '../bookkeeping/layout.js'
import { driverRow, VARIANTS, type DriverName } from '../drivers/drivers.js'
import { openSnapshotter } from '../drivers/open-snapshotter.js'
import { mountAll, unmountAll } from '../mounts/mounts.js'
import { parseSnapshotKey, type RootInfo } from '../snapshot.js'
import type { LayerFiles, Snapshotter } from '../snapshotter.js'
import { leftoversOf } from './leftovers.js'
import { storeFixture, storeLayer } from './make-layers.js'
import { describedFolder, readTree } from './rootfs-listing.js'

/**
 * Checks that a driver may fail, and why. They run too, and must fail. A name that is not the name
 * of a check is an error.
 */
export interface Departure {
  readonly reason: string
  readonly tests: readonly string[]
}
/**
 * Opens the driver on the folder. A second call on the same folder stands for the next start of a
 * node.
 */
type SnapshotterFactory = (folder: string) => Promise<Snapshotter>

interface Place {
  readonly snapshots: Snapshotter
  /** The driver's folder. */
  readonly folder: string
  readonly layout: Layout
  /** The folder of the layers' files. */
  readonly layers: string
  /** A mount point that every user may enter. */
  readonly target: string
  readonly create: SnapshotterFactory
}
type Check = (place: Place) => Promise<void>

const dir = (name: string, fields: Parameters<typeof header>[0] | object = {}): Buffer =>
  header({ name, type: '5', mode: 0o755, uid: 0, gid: 0, ...fields })
const tar = (...parts: Uint8Array[]): Buffer => concat(...parts, ZEROS)
const key = parseSnapshotKey
const codeOf = async (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => 'no error',
    (error: unknown) => (error as StrataError).code,
  )
const byPath = (root: string): Record<string, Record<string, unknown>> =>
  Object.fromEntries(
    readTree(root)
      .map((line) => JSON.parse(line) as Record<string, unknown>)
      .map((entry) => [String(entry['path']), entry]),
  )

const CHECKS: Record<string, Check> = {
  'shows the reference image line by line': async ({ snapshots, layers }) => {
    const chainId = await snapshots.assemble(await storeFixture(layers, 'docker20-odd.tar'))
    expect(readTree(await snapshots.root(chainId))).toEqual(await fixtureListing())
  },

  'shows what the engines agree on where a layer is odd': async ({ snapshots, layers }) => {
    // Where entries lie is the index's work, the same for all drivers: here are those that a driver
    // has to do something for.
    const odd = Object.entries(ODD_STACKS).filter(([name]) =>
      /every kind|layer below|whiteout|opaque|hard link|device|owners|attributes/.test(name),
    )
    expect(odd.length).toBeGreaterThan(10)
    for (const [name, { layers: tars, tree }] of odd) {
      const chainId = await snapshots.assemble(tars.map((bytes) => storeLayer(layers, bytes)))
      expect(describedFolder(await snapshots.root(chainId)), name).toEqual([...tree].sort())
      await snapshots.removeRoot(chainId)
    }
  },

  'stacks 500 layers, each over the one below': async ({ snapshots, layers, target }) => {
    const stack = Array.from({ length: IMAGE_LIMITS.layers.most }, (_, n) =>
      storeLayer(
        layers,
        tar(
          file(`layer-${n}`, `${n}`),
          file('same', `from ${n}`),
          ...(n > 0 && n % 2 === 0 ? [file(`.wh.layer-${n - 1}`, '')] : []),
        ),
      ),
    )
    const chainId = await snapshots.assemble(stack)
    mountAll(await snapshots.prepare(key('many'), chainId), target)
    expect(readFileSync(join(target, 'same'), 'utf8')).toBe('from 499')
    expect(readdirSync(target).sort()).toEqual(
      ['same', 'layer-499', ...Array.from({ length: 250 }, (_, n) => `layer-${2 * n}`)].sort(),
    )
    expect(readFileSync(join(target, 'layer-42'), 'utf8')).toBe('42')
    const lines = readFileSync('/proc/self/mountinfo', 'latin1').split('\n')
    // At 64 KiB no program in Go reads the file any more, and runc starts nothing.
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThan(64 * 1024)
  },

  'makes a root of no layers': async ({ snapshots }) => {
    // The attributes of a root come from its layers alone.
    const umask = process.umask(0o077)
    const chainId = await snapshots.assemble([]).finally(() => process.umask(umask))
    expect(chainId).toBe(chainIdOf([]))
    expect(byPath(await snapshots.root(chainId))).toEqual({
      '': expect.objectContaining({ type: 'dir', mode: '0o755', uid: 0, gid: 0, mtime: 0 }) as unknown,
    })
  },

  'keeps attributes: nanoseconds, times that the engines keep, large ids, special bits, extended attributes': async ({
    snapshots,
    layers,
  }) => {
    const chainId = await snapshots.assemble([
      storeLayer(
        layers,
        tar(
          paxHeader(
            pax('mtime', '9223372036.5') +
              pax('uid', '4000000000') +
              pax('SCHILY.xattr.user.note', 'hello') +
              pax('SCHILY.xattr.trusted.overlay.opaque', 'y'),
          ),
          file('odd', 'x', { mode: 0o6751 }),
          paxHeader(pax('mtime', '1000000000.123456789')),
          dir('folder', { mode: 0o1777 }),
          file('folder/in', 'y', { mtime: 5 }),
          paxHeader(pax('mtime', '3.000000001')),
          header({ name: 'link', type: '2', link: '/etc/passwd', mtime: 3 }),
          paxHeader(pax('mtime', String(2 ** 49))),
          file('far', 'x'),
          paxHeader(pax('mtime', '-1.5')),
          file('before', 'x'),
        ),
      ),
    ])
    const root = await snapshots.root(chainId)
    for (const name of ['far', 'before']) expect(lstatSync(join(root, name), { bigint: true }).mtimeNs).toBe(0n)
    const odd = lstatSync(join(root, 'odd'), { bigint: true })
    expect([odd.mtimeNs, odd.uid, Number(odd.mode) & 0o7777]).toEqual([
      9_223_372_036_500_000_000n,
      4_000_000_000n,
      0o6751,
    ])
    expect(byPath(root)['odd']?.['xattrs']).toEqual({ 'user.note': Buffer.from('hello').toString('base64') })
    expect(lstatSync(join(root, 'folder'), { bigint: true }).mtimeNs).toBe(1_000_000_000_123_456_789n)
    expect(lstatSync(join(root, 'folder')).mode & 0o7777).toBe(0o1777)
    expect(lstatSync(join(root, 'link'), { bigint: true }).mtimeNs).toBe(3_000_000_001n)
  },

  'keeps hard links within a layer, and the data of those into lower layers': async ({ snapshots, layers }) => {
    const chainId = await snapshots.assemble([
      storeLayer(
        layers,
        tar(dir('d'), file('d/a', 'data', { mode: 0o640 }), header({ name: 'b', type: '1', link: 'd/a' })),
      ),
      storeLayer(
        layers,
        tar(header({ name: 'c', type: '1', link: 'd/a' }), header({ name: 'e', type: '1', link: 'c' })),
      ),
    ])
    const root = await snapshots.root(chainId)
    const [a, b, c, e] = ['d/a', 'b', 'c', 'e'].map((name) => statSync(join(root, name)))
    expect(a!.ino).toBe(b!.ino)
    expect(c!.ino).toBe(e!.ino)
    expect(readFileSync(join(root, 'e'), 'utf8')).toBe('data')
    expect(c!.mode & 0o777).toBe(0o640)
  },

  'hides what whiteouts and opaque folders hide, whatever it was': async ({ snapshots, layers }) => {
    const chainId = await snapshots.assemble([
      storeLayer(
        layers,
        tar(
          dir('d', { mode: 0o700 }),
          file('d/a', ''),
          dir('d/sub'),
          file('d/sub/x', ''),
          dir('o'),
          file('o/old', ''),
          file('was-file', ''),
          dir('was-folder'),
          file('was-folder/x', ''),
        ),
      ),
      storeLayer(
        layers,
        tar(
          file('d/.wh.a', ''),
          file('d/.wh.sub', ''),
          file('o/.wh..wh..opq', ''),
          file('o/new', ''),
          dir('was-file'),
          file('was-file/y', ''),
          file('was-folder', ''),
          file('.wh.nothing', ''),
        ),
      ),
    ])
    const tree = byPath(await snapshots.root(chainId))
    expect(Object.keys(tree)).toEqual(['', 'd', 'o', 'o/new', 'was-file', 'was-file/y', 'was-folder'])
    // The second layer only implies `d`: it stays as it was below.
    expect(tree['d']?.['mode']).toBe('0o700')
    expect(tree['was-folder']?.['type']).toBe('file')
  },

  'reads the last file of a tar that lacks its padding': async ({ snapshots, layers }) => {
    const content = 'z'.repeat(700)
    const chainId = await snapshots.assemble([
      storeLayer(layers, concat(file('first', 'a'), header({ name: 'last', size: 700 }), Buffer.from(content))),
    ])
    const root = await snapshots.root(chainId)
    expect(readFileSync(join(root, 'last'), 'utf8')).toBe(content)
    expect(readFileSync(join(root, 'first'), 'utf8')).toBe('a')
  },

  'keeps the holes of a sparse file of 100 GB': async ({ snapshots, layers, folder }) => {
    const size = 100 * 1024 ** 3
    const records =
      pax('GNU.sparse.major', '1') +
      pax('GNU.sparse.minor', '0') +
      pax('GNU.sparse.name', 'big') +
      pax('GNU.sparse.realsize', String(size))
    const map = Buffer.alloc(512)
    map.write(`2\n0\n4\n${size - 512}\n512\n`)
    const data = concat(map, Buffer.concat([Buffer.from('head')], 4), Buffer.alloc(512, 't'))
    const layer = storeLayer(
      layers,
      tar(
        paxHeader(records),
        header({ name: 'GNUSparseFile.0/big', size: data.length }),
        Buffer.concat([data], Math.ceil(data.length / 512) * 512),
      ),
    )
    const chainId = await snapshots.assemble([layer])
    const path = join(await snapshots.root(chainId), 'big')
    expect(statSync(path).size).toBe(size)
    expect(execFileSync('head', ['-c', '6', path])).toEqual(Buffer.from('head\0\0'))
    expect(execFileSync('tail', ['-c', '514', path])).toEqual(Buffer.from(`\0\0${'t'.repeat(512)}`))
    expect(Number(execFileSync('du', ['-sx', '--block-size=1', folder]).toString().split('\t')[0])).toBeLessThan(
      1024 ** 2,
    )
  },

  'takes paths of 4,096 bytes and folders 1,000 deep, and removes them again': async ({ snapshots, layers }) => {
    const long = Array.from({ length: 16 }, (_, n) => `${n}`.padStart(255, 'n')).join('/')
    const deep = Array.from({ length: 1000 }, () => 'd').join('/')
    const chainId = await snapshots.assemble([
      storeLayer(
        layers,
        tar(
          paxHeader(pax('path', long)),
          file('x', 'at the end'),
          paxHeader(pax('path', `${deep}/f`)),
          file('x', 'deep'),
          paxHeader(pax('path', `${deep}/hard`) + pax('linkpath', long)),
          header({ name: 'x', type: '1', link: 'x' }),
        ),
      ),
    ])
    const tree = byPath(await snapshots.root(chainId))
    expect(tree[long]).toMatchObject({ type: 'file', size: 10 })
    expect(tree[`${deep}/f`]).toMatchObject({ type: 'file', size: 4 })
    expect(tree[`${deep}/hard`]?.['sha256']).toBe(tree[long]?.['sha256'])
  },

  'follows no link that a layer brings: a file outside stays as it was (CVE-2019-14271 and its kin)': async ({
    snapshots,
    layers,
    target,
  }) => {
    const canary = join(layers, 'canary')
    writeFileSync(canary, 'untouched', { mode: 0o600 })
    utimesSync(canary, 1, 1)
    const chainId = await snapshots.assemble([
      storeLayer(
        layers,
        tar(header({ name: 'out', type: '2', link: layers }), header({ name: 'file', type: '2', link: canary })),
      ),
      storeLayer(
        layers,
        tar(file('out/canary', 'overwritten', { mode: 0o777 }), file('file', 'overwritten', { mode: 0o777 })),
      ),
    ])
    mountAll(await snapshots.prepare(key('canary'), chainId), target)
    expect(readFileSync(join(target, 'out/canary'), 'utf8')).toBe('overwritten')
    expect(readFileSync(join(target, 'file'), 'utf8')).toBe('overwritten')
    expect([readFileSync(canary, 'utf8'), statSync(canary).mode & 0o777, statSync(canary).mtimeMs]).toEqual([
      'untouched',
      0o600,
      1000,
    ])
  },

  'mounts a root once, read-only, nosuid and nodev': async ({ snapshots, layers }) => {
    const chainId = await snapshots.assemble([storeLayer(layers, tar(file('f', '')))])
    const [path, again] = await Promise.all([snapshots.root(chainId), snapshots.root(chainId)])
    expect(again).toBe(path)
    expect(mountAt(path)?.options).toEqual(expect.arrayContaining(['ro', 'nosuid', 'nodev']))
    expect(() => writeFileSync(join(path, 'g'), '')).toThrow(/EROFS/)
    umount(path)
    expect(mountAt(path)).toBeUndefined()
  },

  'assembles a stack once for all who ask at the same time': async ({ snapshots, layers, layout }) => {
    const stack = [storeLayer(layers, tar(file('f', 'once')))]
    let made = 0
    const count = (message: unknown): void => {
      if ((message as { failpoint: string }).failpoint === 'assemble.committed') made++
    }
    subscribe(FAILPOINT_CHANNEL, count)
    try {
      const ids = await Promise.all(Array.from({ length: 20 }, () => snapshots.assemble(stack)))
      await snapshots.assemble(stack)
      expect([new Set(ids).size, made]).toEqual([1, 1])
    } finally {
      unsubscribe(FAILPOINT_CHANNEL, count)
    }
    expect(layout.unfinished()).toEqual([])
  },

  'shares a folder with another driver of the same kind': async ({ snapshots, layers, folder, create }) => {
    const other = await create(folder)
    try {
      const stack = [storeLayer(layers, tar(file('f', 'shared'))), storeLayer(layers, tar(file('g', '')))]
      const ids = await Promise.all([
        snapshots.assemble(stack),
        other.assemble(stack),
        other.assemble(stack.slice(0, 1)),
        snapshots.assemble(stack.slice(0, 1)),
      ])
      expect(ids[0]).toBe(ids[1])
      expect(await snapshots.root(ids[0])).toBe(await other.root(ids[0]))
      await other.removeRoot(ids[2])
      expect(readFileSync(join(await other.root(ids[0]), 'f'), 'utf8')).toBe('shared')
    } finally {
      await other.close()
    }
  },

  'gives a snapshot what its root has, and keeps its changes to itself': async ({ snapshots, layers, target }) => {
    const chainId = await snapshots.assemble([
      storeLayer(
        layers,
        tar(dir('./', { mode: 0o751, uid: 12, gid: 34, mtime: 77 }), file('f', 'old'), file('gone', '')),
      ),
    ])
    mountAll(await snapshots.prepare(key('c1'), chainId), target)
    expect(readTree(target)).toEqual(readTree(await snapshots.root(chainId)))
    writeFileSync(join(target, 'f'), 'new')
    rmSync(join(target, 'gone'))
    expect(readFileSync(join(await snapshots.root(chainId), 'f'), 'utf8')).toBe('old')
    await unmountAll(target)
    mountAll(await snapshots.mounts(key('c1')), target)
    expect(readdirSync(target)).toEqual(['f'])
    expect(readFileSync(join(target, 'f'), 'utf8')).toBe('new')
  },

  'counts of a snapshot only what was changed in it': async ({ snapshots, layers, target }) => {
    const chainId = await snapshots.assemble([
      storeLayer(layers, tar(file('f', 'old'), file('gone', ''), file('large', 'x'.repeat(100_000)))),
    ])
    mountAll(await snapshots.prepare(key('c1'), chainId), target)
    writeFileSync(join(target, 'f'), 'new')
    rmSync(join(target, 'gone'))
    const { inodes, bytes } = await snapshots.usage(key('c1'))
    expect(inodes).toBe(3)
    expect(bytes).toBeLessThan(100_000)
  },

  'mounts a volatile snapshot so that no sync inside waits for the disk': async ({ snapshots, layers, target }) => {
    const chainId = await snapshots.assemble([storeLayer(layers, tar(file('f', 'old')))])
    mountAll(await snapshots.prepare(key('c1'), chainId, { isVolatile: true }), target)
    expect(mountAt(target)?.superOptions.join()).toContain('volatile')
  },

  'mounts a volatile snapshot again, with its changes, as long as the machine runs': async ({
    snapshots,
    layers,
    target,
  }) => {
    const chainId = await snapshots.assemble([storeLayer(layers, tar(file('f', 'old')))])
    for (const [before, after] of [
      ['old', 'new'],
      ['new', 'newer'],
    ] as const) {
      mountAll(await snapshots.prepare(key('c1'), chainId, { isVolatile: true }), target)
      expect(readFileSync(join(target, 'f'), 'utf8')).toBe(before)
      writeFileSync(join(target, 'f'), after)
      await unmountAll(target)
    }
  },

  'honours set-user-id programs and devices in a snapshot, though its root is nosuid and nodev': async ({
    snapshots,
    layers,
    target,
  }) => {
    const id = readFileSync(realpathSync('/usr/bin/id'))
    const chainId = await snapshots.assemble([
      storeLayer(
        layers,
        tar(
          file('id', id, { mode: 0o4755, uid: 0, gid: 0 }),
          header({ name: 'zero', type: '3', major: 1, minor: 5, mode: 0o666, uid: 0, gid: 0 }),
          dir('./'),
        ),
      ),
    ])
    mountAll(await snapshots.prepare(key('suid'), chainId), target)
    expect(execFileSync(join(target, 'id'), ['-u'], { uid: 1000, gid: 1000 }).toString()).toBe('0\n')
    expect(execFileSync('head', ['-c', '4', join(target, 'zero')])).toEqual(Buffer.alloc(4))
  },

  'gives a view that cannot be written': async ({ snapshots, layers, target }) => {
    const chainId = await snapshots.assemble([
      storeLayer(layers, tar(dir('./', { mode: 0o751, uid: 12, gid: 34, mtime: 77 }), file('f', 'x'))),
    ])
    mountAll(await snapshots.view(key('v'), chainId), target)
    expect(readTree(target)).toEqual(readTree(await snapshots.root(chainId)))
    expect(readFileSync(join(target, 'f'), 'utf8')).toBe('x')
    expect(() => writeFileSync(join(target, 'f'), 'y')).toThrow(/EROFS/)
    expect(await codeOf(snapshots.remove(key('v')))).toBe('in_use')
  },

  'prepares the same key again, and refuses it for anything else': async ({ snapshots, layers }) => {
    const [one, two] = [
      await snapshots.assemble([storeLayer(layers, tar(file('1', '')))]),
      await snapshots.assemble([storeLayer(layers, tar(file('2', '')))]),
    ]
    const mounts = await snapshots.prepare(key('k'), one)
    expect(await snapshots.prepare(key('k'), one)).toEqual(mounts)
    expect(await codeOf(snapshots.prepare(key('k'), two))).toBe('exists')
    expect(await codeOf(snapshots.view(key('k'), one))).toBe('exists')
    expect(await snapshots.stat(key('k'))).toEqual({ key: 'k', kind: 'writable', chainId: one })
    await snapshots.view(key('a'), two)
    const found = []
    for await (const info of snapshots.walk()) found.push(info.key)
    expect(found).toEqual(['a', 'k'])
  },

  'says what is not there, and removes what is not there without a word': async ({ snapshots }) => {
    const chainId = chainIdOf([`sha256:${'0'.repeat(64)}` as DiffId])
    expect(await codeOf(snapshots.root(chainId))).toBe('not_found')
    expect(await codeOf(snapshots.prepare(key('x'), chainId))).toBe('not_found')
    expect(await codeOf(snapshots.mounts(key('x')))).toBe('not_found')
    expect(await codeOf(snapshots.stat(key('x')))).toBe('not_found')
    expect(await codeOf(snapshots.usage(key('x')))).toBe('not_found')
    expect(await snapshots.isAssembled(chainId)).toBe(false)
    await snapshots.remove(key('x'))
    await snapshots.removeRoot(chainId)
  },

  'tells its roots, what they are made of, and what removing them frees': async ({ snapshots, layers, layout }) => {
    const [base, one, two] = [
      file('base', 'x'.repeat(9_000)),
      file('one', 'y'.repeat(5_000)),
      file('two', 'z'.repeat(7_000)),
    ].map((entry) => storeLayer(layers, tar(entry))) as [LayerFiles, LayerFiles, LayerFiles]
    const first = await snapshots.assemble([base, one])
    const second = await snapshots.assemble([base, two])
    const roots = async () => {
      const found = new Map<ChainId, RootInfo>()
      for await (const root of snapshots.roots()) found.set(root.chainId, root)
      return found
    }
    expect(await roots()).toEqual(
      new Map(
        [first, second]
          .sort()
          .map((chainId) => [
            chainId,
            { chainId, layers: [base, chainId === first ? one : two].map(({ diffId }) => diffId), usedAt: undefined },
          ]),
      ),
    )
    const both = await snapshots.rootUsage([first, second])
    expect(await snapshots.removeRoot(first, () => true)).toEqual({ bytes: 0, inodes: 0 })
    expect(await snapshots.isAssembled(first)).toBe(true)
    const freed = [await snapshots.removeRoot(first), await snapshots.removeRoot(second)]
    // Whatever the two share goes with the second.
    expect(freed[0]!.bytes).toBeLessThanOrEqual(freed[1]!.bytes + 4_096)
    expect({ bytes: freed[0]!.bytes + freed[1]!.bytes, inodes: freed[0]!.inodes + freed[1]!.inodes }).toEqual(both)
    expect(layout.contents()).toEqual([])
    expect(await snapshots.rootUsage([first, second])).toEqual({ bytes: 0, inodes: 0 })
    expect(await snapshots.removeRoot(first)).toEqual({ bytes: 0, inodes: 0 })
  },

  'refuses to remove what is in use': async ({ snapshots, layers, target }) => {
    const chainId = await snapshots.assemble([storeLayer(layers, tar(file('f', '')))])
    mountAll(await snapshots.prepare(key('c'), chainId), target)
    expect(snapshots.userOf(key('c'))).toBe(target)
    expect(await codeOf(snapshots.remove(key('c')))).toBe('in_use')
    expect(await codeOf(snapshots.removeRoot(chainId))).toBe('in_use')
    // Somebody looks into it at another place, and does not end with the first mount.
    const look = `${target}-look`
    mkdirSync(look)
    mount(target, look, '', MS_BIND)
    await unmountAll(target)
    expect(snapshots.userOf(key('c'))).toBe(look)
    expect(await codeOf(snapshots.remove(key('c')))).toBe('in_use')
    await unmountAll(look)
    rmdirSync(look)
    expect(snapshots.userOf(key('c'))).toBeUndefined()
    expect(await codeOf(snapshots.removeRoot(chainId))).toBe('in_use')
    expect(await snapshots.releaseRoots()).toEqual([])
    // Released, it is mounted again for whoever needs it.
    await snapshots.prepare(key('other'), chainId)
    const path = await snapshots.root(chainId)
    await snapshots.releaseRoot(chainId, key('c'))
    expect(mountAt(path)).toBeDefined()
    await snapshots.remove(key('other'))
    await snapshots.releaseRoot(chainId, key('c'))
    expect(mountAt(path)).toBeUndefined()
    mountAll(await snapshots.mounts(key('c')), target)
    await unmountAll(target)
    await snapshots.remove(key('c'))
    await snapshots.removeRoot(chainId)
    expect(await snapshots.isAssembled(chainId)).toBe(false)
  },

  'keeps a root open, and says where it is used, while a snapshot of it is mounted': async ({
    snapshots,
    layers,
    target,
  }) => {
    const usedAt = async (): Promise<string | undefined> => {
      for await (const root of snapshots.roots()) return root.usedAt
      throw new Error('no root')
    }
    const chainId = await snapshots.assemble([storeLayer(layers, tar(file('f', '')))])
    mountAll(await snapshots.prepare(key('c'), chainId), target)
    expect(await usedAt()).toBe(target)
    expect(await snapshots.releaseRoots()).toEqual([chainId])
    await unmountAll(target)
    expect(await usedAt()).toBeUndefined()
    expect(await snapshots.releaseRoots()).toEqual([])
  },

  'outlives its process, and what a dead one left half-made goes at the next start': async ({
    snapshots,
    layers,
    folder,
    layout,
    target,
    create,
  }) => {
    const stack = [storeLayer(layers, tar(file('f', 'kept')))]
    const chainId = await snapshots.assemble(stack)
    mountAll(await snapshots.prepare(key('c'), chainId), target)
    writeFileSync(join(target, 'mine'), '')
    await snapshots.close()
    mkdirSync(join(layout.fresh(), 'half-made'), { recursive: true })
    writeFileSync(layout.lock('root-of-a-dead-one'), '')
    const next = await create(folder)
    try {
      expect([...layout.unfinished(), ...layout.locks()]).toEqual([])
      expect(await next.isAssembled(chainId)).toBe(true)
      expect(readFileSync(join(await next.root(chainId), 'f'), 'utf8')).toBe('kept')
      expect(readdirSync(target).sort()).toEqual(['f', 'mine'])
      expect(await next.prepare(key('c'), chainId)).toHaveLength(1)
    } finally {
      await next.close()
    }
  },

  'assembles anew what was damaged, and never mounts it': async ({ snapshots, layers, layout }) => {
    const stack = [storeLayer(layers, tar(file('f', 'again')))]
    const chainId = await snapshots.assemble(stack)
    writeFileSync(layout.rootRecord(chainId), '')
    expect(await snapshots.isAssembled(chainId)).toBe(false)
    expect(await codeOf(snapshots.root(chainId))).toBe('not_found')
    await snapshots.assemble(stack)
    expect(readFileSync(join(await snapshots.root(chainId), 'f'), 'utf8')).toBe('again')
  },

  'ends with the signal’s reason and leaves nothing when it aborts': async ({ snapshots, layers, layout }) => {
    const stack = Array.from({ length: 30 }, (_, n) =>
      storeLayer(layers, tar(...Array.from({ length: 50 }, (_, m) => file(`${n}-${m}`, 'x')))),
    )
    const abort = new AbortController()
    const cancelled = snapshots.assemble(stack, abort.signal)
    abort.abort(new StrataError('cancelled', 'no more'))
    expect(await codeOf(cancelled)).toBe('cancelled')
    expect(await codeOf(snapshots.assemble(stack, abort.signal))).toBe('cancelled')
    const chainId = await snapshots.assemble(stack)
    expect(readTree(await snapshots.root(chainId))).toHaveLength(1501)
    expect(layout.locks()).toEqual([])
  },

  'refuses layers that are not there or not as their index says, and leaves nothing': async ({
    snapshots,
    layers,
    layout,
  }) => {
    const good = storeLayer(layers, tar(file('f', 'x'.repeat(5000))))
    const cut: LayerFiles = { ...good, tar: join(layers, 'cut') }
    writeFileSync(cut.tar, readFileSync(good.tar).subarray(0, 1024))
    const bad: LayerFiles = { ...good, index: join(layers, 'bad') }
    writeFileSync(bad.index, Buffer.alloc(100))
    const lost = storeLayer(layers, tar(header({ name: 'l', type: '1', link: 'nowhere' })))
    expect(await codeOf(snapshots.assemble([{ ...good, tar: join(layers, 'none') }]))).toBe('layer_missing')
    expect(await codeOf(snapshots.assemble([{ ...good, index: join(layers, 'none') }]))).toBe('layer_missing')
    expect(await codeOf(snapshots.assemble([cut]))).toBe('corrupt')
    expect(await codeOf(snapshots.assemble([bad]))).toBe('corrupt')
    expect(await codeOf(snapshots.assemble([lost]))).toBe('layer_invalid')
    expect(layout.contents()).toEqual([])
  },
}

/**
 * The conformance suite, for each variant of a driver: the laws of snapshotter.ts and driver.ts.
 * Needs root. It reads no folder of a driver except by what the layout and the driver's row say.
 */
export function describeDriver(driver: DriverName, departures: readonly Departure[] = []): void {
  const skipped = new Map(departures.flatMap(({ reason, tests }) => tests.map((test) => [test, reason] as const)))
  for (const test of skipped.keys())
    if (!(test in CHECKS)) throw new Error(`${driver} skips ${JSON.stringify(test)}, which is no check`)

  const variants = VARIANTS.filter((variant) => variant.driver === driver)
  describe.each(variants.map((variant) => [variant.title, variant] as const))('snapshotter %s', (_, variant) => {
    const create = (folder: string): Promise<Snapshotter> => openSnapshotter(folder, variant)
    let base: string
    let place: Place

    beforeEach(async () => {
      // Not /tmp, which may be a file system in memory that lacks what drivers need.
      base = makePrivateMount(mkdtempSync('/var/tmp/strata-snapshots-'))
      chmodSync(base, 0o755)
      for (const folder of ['layers', 'target']) mkdirSync(join(base, folder))
      const folder = join(base, 'driver')
      place = {
        snapshots: await create(folder),
        folder,
        layout: new Layout(folder, driverRow(driver).folders),
        layers: join(base, 'layers'),
        target: join(base, 'target'),
        create,
      }
    })

    afterEach(async () => {
      await place.snapshots.close().catch(() => undefined)
      const last = await create(place.folder)
      await unmountAll(place.target)
      const keys = []
      for await (const { key: found } of last.walk()) keys.push(found)
      for (const found of keys) await last.remove(found)
      const roots = []
      for await (const { chainId } of last.roots()) roots.push(chainId)
      for (const chainId of roots) await last.removeRoot(chainId)
      await last.close()
      const left = await leftoversOf(place.layout)
      umount(base, MNT_DETACH)
      rmSync(base, { recursive: true })
      expect(left).toEqual([])
      expect(existsSync(base)).toBe(false)
    })

    for (const [test, check] of Object.entries(CHECKS)) {
      const reason = skipped.get(test)
      if (reason === undefined) it(test, () => check(place))
      else it.fails(`not: ${test} (${reason})`, () => check(place))
    }
  })
}
