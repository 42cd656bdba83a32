import { TarEntry, TarReader } from '@strata/archive'
import { concat, file, header, pax, paxHeader, ZEROS } from '@strata/archive/testing'
import { StrataError } from '@strata/base'
import { describe, expect, it, vi } from 'vitest'
import { IndexBuilder } from './index-builder.js'
import { FLAG, KIND } from '../kind.js'
import { LayerIndex } from './layer-index.js'
import { layerOf, type Given } from '../testing/layer-of.js'
import { linked, shown } from '../testing/shown.js'
import { mergeLayers } from '../merge/tree-merger.js'

const shownOf = (...given: (Given | string)[]): string[] => shown(mergeLayers([layerOf(...given)]))
const refused = (message: string | RegExp): StrataError =>
  expect.objectContaining({ code: 'layer_invalid', message: expect.stringMatching(message) as string }) as StrataError

describe('paths', () => {
  it.each(['./a/b', '/a/b', 'a//b', 'a/./b', 'a/b/.', './/a/b//'])('%s is a/b', (path) => {
    expect(shownOf(path.endsWith('/') || path.endsWith('.') ? { path } : path)).toEqual(['d755 a', 'f600 a/b'])
  })

  it.each(['a/x/../b', 'a/b/c/..', './a/./x/y/../../b', 'x/../a/b'])('%s is a/b, by its text alone', (path) => {
    expect(shownOf({ path })).toEqual(['d755 a', 'f600 a/b'])
  })

  it.each(['..', '../a', 'a/../..', 'a/../../b', '/..'])('%s leads out of the root and is refused', (path) => {
    expect(() => layerOf({ path })).toThrow(refused(/leads out of the root/))
    expect(() => layerOf('f', { path: 'h', type: 'hardlink', target: path })).toThrow(refused(/leads out of the root/))
  })

  it.each([
    ['a zero byte', 'a\0b'],
    ['a name of 256 bytes', 'n'.repeat(256)],
    ['4,096 bytes', 'a/'.repeat(2048)],
  ])('%s is refused', (_what, path) => {
    expect(() => layerOf({ path })).toThrow(refused(/the path/))
  })

  it('keeps names that are not UTF-8, or only look like something', () => {
    const names = [Buffer.from([0x61, 0xff]), '...', '.wh', '.whx', ' ', '-', '..a']
    const tree = mergeLayers([layerOf(...names.map((path) => ({ path })))])
    expect(Array.from({ length: tree.nodeCount - 1 }, (_, node) => tree.name(node + 1).toString('latin1'))).toEqual([
      ' ',
      '-',
      '...',
      '..a',
      '.wh',
      '.whx',
      'a\xff',
    ])
  })

  it.each(['.', './', '/'])('%s is the root, and must be a directory', (path) => {
    const root = layerOf({
      path,
      type: 'directory',
      mode: 0o700,
      uid: 5,
      gid: 6,
      mtime: 7,
      ownXattrs: [[Buffer.from('user.a'), Buffer.from('b')]],
    })
    expect([root.mode(0), root.uid(0), root.gid(0), root.xattrs(0), root.mtime(0)]).toEqual([0o755, 0, 0, [], 7])
    expect(() => layerOf({ path, type: 'symlink', target: '/etc' })).toThrow(
      refused(/is the root, and not a directory/),
    )
    expect(() => layerOf({ path })).toThrow(refused(/is the root/))
    expect(() => layerOf('x', { path, type: 'hardlink', target: 'x' })).toThrow(refused(/is the root/))
  })

  it('makes missing parents up', () => {
    expect(shownOf('a/b/c')).toEqual(['d755 a', 'd755 a/b', 'f600 a/b/c'])
    expect(shownOf('a/b/c', 'a/')).toEqual(['d700 a', 'd755 a/b', 'f600 a/b/c'])
  })

  it.each([
    ['symlink', /symbolic link/],
    ['file', /non-directory/],
    ['fifo', /non-directory/],
  ] as const)('refuses what lies below a %s', (type, message) => {
    expect(() => layerOf({ path: 'a', type, target: 'b' }, 'a/c')).toThrow(refused(message))
    expect(() => layerOf({ path: 'a', type, target: 'b' }, 'a/c/d')).toThrow(refused(message))
  })
})

describe('a name that comes twice', () => {
  it('is what came last', () => {
    expect(shownOf({ path: 'a', mode: 0o1 }, { path: 'a', mode: 0o2 })).toEqual(['f2 a'])
    expect(shownOf('a', { path: 'a', type: 'fifo' })).toEqual(['p600 a'])
  })

  it('keeps the children of a directory', () => {
    expect(shownOf('a/b', { path: 'a', type: 'directory', mode: 0o1777 })).toEqual(['d1777 a', 'f600 a/b'])
  })

  it('takes the children away with the directory', () => {
    expect(shownOf('a/b/c', 'a/d', 'a')).toEqual(['f600 a'])
    expect(shownOf('a/b/c', 'a', 'a/')).toEqual(['d700 a'])
    expect(shownOf('a/b/c', 'a', 'a/', 'a/x')).toEqual(['d700 a', 'f600 a/x'])
    expect(shownOf('a/b/c', { path: 'a', type: 'symlink', target: 'z' }, 'a/', 'a/b/x')).toEqual([
      'd700 a',
      'd755 a/b',
      'f600 a/b/x',
    ])
  })

  it('costs no more when directory and file alternate', () => {
    const alternating = Array.from({ length: 20_000 }, (_, index) => (index % 2 === 0 ? 'a/' : 'a'))
    expect(shownOf(...Array.from({ length: 20_000 }, (_, index) => `a/${index}`), ...alternating)).toEqual(['f600 a'])
  })
})

describe('hard links', () => {
  const link = (path: string, target: string): Given => ({ path, type: 'hardlink', target })
  const groups = (...given: (Given | string)[]): string[][] => linked(mergeLayers([layerOf(...given)]))

  it.each<[string, (Given | string)[]]>([
    ['backward', ['a', link('z', 'a')]],
    ['forward', [link('z', 'a'), 'a']],
    ['to a name that sorts later', ['z', link('a', 'z')]],
    ['with an unclean target', ['a', link('z', '/./a')]],
    ['to a symbolic link', [{ path: 'a', type: 'symlink', target: 'x' }, link('z', 'a')]],
    ['to a device', [{ path: 'a', type: 'char', devMajor: 1, devMinor: 3 }, link('z', 'a')]],
  ])('%s', (_what, given) => {
    expect(groups(...given)).toEqual([['a', 'z']])
  })

  it('in chains, in any order', () => {
    expect(groups(link('c', 'b'), link('b', 'a'), 'a')).toEqual([['a', 'b', 'c']])
    expect(groups(link('b', 'a'), 'a', link('c', 'b'))).toEqual([['a', 'b', 'c']])
    const long = Array.from({ length: 5000 }, (_, index) => link(`n${index}`, `n${index + 1}`))
    expect(groups(...long, 'n5000')[0]).toHaveLength(5001)
  })

  it('hold the file that had the name when they came', () => {
    const index = layerOf({ path: 'a', mode: 0o1 }, link('b', 'a'), { path: 'a', mode: 0o2 })
    expect(shown(mergeLayers([index]))).toEqual(['f1 b', 'f2 a'])
  })

  it.each<[string, (Given | string)[], RegExp]>([
    ['to itself', [link('a', 'a')], /"a" is a hard link to itself/],
    ['to itself, where something stands', ['a', link('a', 'a')], /"a" is a hard link to itself/],
    ['in a ring', [link('a', 'b'), link('b', 'c'), link('c', 'a')], /ends at itself/],
    ['to a directory', ['a/', link('b', 'a')], /"b" names "a", which is a directory/],
    ['to a directory that comes later', [link('b', 'a'), 'a/'], /names "a", which is a directory/],
    ['to the root', [link('b', '/')], /which is a directory/],
    ['to a whiteout', [link('b', '.wh.a')], /a name that no file of a layer can have/],
  ])('are refused %s', (_what, given, message) => {
    expect(() => layerOf(...given)).toThrow(refused(message))
  })

  it('through symbolic links name what is in the layer, whatever there is outside (CVE-2026-24842)', () => {
    const escape = [{ path: 'up', type: 'symlink', target: '../../..' }, link('x', 'up/etc/passwd')] as const
    expect(groups('etc/passwd', ...escape)).toEqual([['x', 'etc/passwd']])
    expect(() => mergeLayers([layerOf(...escape)])).toThrow(
      refused(/"x" names "etc\/passwd", which is neither in its layer nor below it/),
    )
  })

  it('into the layers below name what lies there by the path that their own links lead to', () => {
    const upper = layerOf('usr/lib/', { path: 'lib', type: 'symlink', target: 'usr/lib' }, link('h', 'lib/f'))
    expect(linked(mergeLayers([layerOf('usr/lib/f'), upper]))).toEqual([['h', 'usr/lib/f']])
  })
})

describe('links above an entry', () => {
  const symlink = (path: string, target: string): Given => ({ path, type: 'symlink', target })

  it('cost a layer at most a mebibyte of their targets at once, and 256 bytes more with each entry', () => {
    const long = symlink('l', `${'./'.repeat(2000)}d`)
    const through = (count: number): Given[] => Array.from({ length: count }, (_, n) => ({ path: `l/${n}/f` }))
    const plain = Array.from({ length: 5000 }, (_, n) => `p${n}`)
    expect(shownOf('d/', long, ...through(250))).toHaveLength(502)
    for (const before of [[], plain])
      expect(() => layerOf('d/', long, ...before, ...through(300))).toThrow(
        expect.objectContaining({ code: 'limit_exceeded', message: expect.stringMatching(/1048576 bytes/) as string }),
      )
    // The folder of the entry before is known without a walk.
    expect(shownOf('d/', long, ...Array.from({ length: 400 }, (_, n) => `l/${n}`))).toHaveLength(402)
  })

  it('make no folder deeper than 1,024, and no path longer than 4,095 bytes', () => {
    const deep = 'd/'.repeat(600)
    expect(shownOf(deep, symlink('l', deep), `l/${'e/'.repeat(423)}f`)).toHaveLength(600 + 1 + 424)
    for (const rest of [`${'e/'.repeat(424)}f`, `${'e/'.repeat(424)}f/`])
      expect(() => layerOf(deep, symlink('l', deep), `l/${rest}`)).toThrow(refused(/more than 1024 folders or 4095/))
    const wide = `${'w'.repeat(250)}/`.repeat(16)
    const at = (length: number): string => `l/${'x'.repeat(length)}`
    expect(shownOf(wide, symlink('l', wide), at(79))).toHaveLength(18)
    expect(() => layerOf(wide, symlink('l', wide), at(80))).toThrow(refused(/more than 1024 folders or 4095/))
    // Also where the folder is that of the entry before.
    expect(() => layerOf(wide, symlink('l', wide), at(1), at(80))).toThrow(refused(/more than 1024 folders or 4095/))
    expect(() =>
      layerOf(wide, symlink('l', wide), { path: 'h', type: 'hardlink', target: `l/${'x'.repeat(90)}` }),
    ).toThrow(refused(/more than 1024 folders or 4095/))
  })

  it('lead where they led when the entry came, also behind an entry of the same folder', () => {
    const given = [symlink('l', 'a'), 'l/1', symlink('l', 'b'), 'l/2', 'l', 'l/', 'l/3']
    expect(shownOf('a/', 'b/', ...given)).toEqual(['d700 a', 'd700 b', 'd700 l', 'f600 a/1', 'f600 b/2', 'f600 l/3'])
  })
})

describe('whiteouts', () => {
  const kinds = (...given: (Given | string)[]): [string, number, number][] => {
    const index = layerOf(...given)
    return Array.from({ length: index.count }, (_, entry) => [
      index.path(entry).toString(),
      index.kind(entry),
      index.flags(entry),
    ])
  }

  it('are marks on names', () => {
    expect(kinds('.wh.a')).toEqual([
      ['', KIND.directory, FLAG.implied],
      ['a', KIND.whiteout, 0],
    ])
    expect(kinds('.wh.a', 'a').at(-1)).toEqual(['a', KIND.file, 0])
    expect(kinds('a/', '.wh.a').at(-1)).toEqual(['a', KIND.directory, FLAG.whiteout])
    expect(kinds('a/.wh..wh..opq').at(-1)).toEqual(['a', KIND.directory, FLAG.implied | FLAG.opaque])
    expect(kinds('.wh..wh..opq')).toEqual([['', KIND.directory, FLAG.implied | FLAG.opaque]])
    expect(kinds('.wh.a', 'a/b')[1]).toEqual(['a', KIND.directory, FLAG.implied | FLAG.whiteout])
  })

  it.each(['.wh..wh.plnk', '.wh..wh.aufs', '.wh..wh.', '.wh..wh.plnk/1.2', 'a/.wh..wh.orph/x/y', '.wh..wh..opq2'])(
    "%s is aufs's own and skipped",
    (path) => {
      expect(kinds({ path }).every(([name]) => name === '' || name === 'a')).toBe(true)
    },
  )

  it.each(['.wh.', '.wh..', '.wh...', 'x/.wh.'])('%s is refused', (path) => {
    expect(() => layerOf({ path })).toThrow(refused(/is a whiteout of nothing/))
  })

  it.each(['x/.wh./y', '.wh.a/b', '.wh..wh..opq/x', '.wh../x'])('%s is refused', (path) => {
    expect(() => layerOf({ path })).toThrow(refused(/lies below a whiteout/))
  })
})

describe('attributes', () => {
  it('of every size come through', () => {
    const index = layerOf(
      { path: 'a', uid: 0xfffffffd, gid: 0xfffffffe, mode: 0o107777, mtime: 1, mtimeNanos: 999_999_999 },
      { path: 'b', mtime: 2 ** 33 },
      { path: 'c', type: 'block', devMajor: 4095, devMinor: 1048575 },
    )
    expect([index.uid(1), index.gid(1), index.mode(1), index.mtime(1), index.mtimeNanos(1)]).toEqual([
      0xfffffffd, 0xfffffffe, 0o7777, 1, 999_999_999,
    ])
    expect([index.mtime(2), index.major(3), index.minor(3)]).toEqual([2 ** 33, 4095, 1048575])
  })

  it.each<[string, Partial<TarEntry>]>([
    ['an owner', { uid: 2 ** 53 }],
    ['a time', { mtime: Number.NaN }],
  ])('%s out of bounds is refused', (_what, attributes) => {
    expect(() => layerOf({ path: 'a', ...(attributes as Partial<Given>) })).toThrow(refused(/"a" has/))
  })

  it('a device that Linux cannot hold is refused by name', () => {
    expect(() => layerOf({ path: 'dev/x', type: 'char', devMajor: 4096 })).toThrow(refused(/4096:0/))
    expect(shownOf({ path: 'x', type: 'block' })).toEqual(['b600 x'])
  })

  it.each(['', 'x\0y', 'x'.repeat(4096)])('a symbolic link to %j is refused', (link) => {
    expect(() => layerOf({ path: 'a', type: 'symlink', target: link })).toThrow(refused(/target that no link can have/))
  })

  it('drops what would steer the machine, keeps the rest sorted', () => {
    const names = [
      'user.b',
      'trusted.overlay.opaque',
      'security.ima',
      'user.overlay.opaque',
      'security.selinux',
      'user.a',
      'system.nfs4_acl',
      'user.',
      'plain',
    ]
    const index = layerOf({ path: 'a', ownXattrs: names.map((name) => [Buffer.from(name), Buffer.from(name)]) })
    expect(index.xattrs(1).map(([name, value]) => [name.toString(), value.toString()])).toEqual(
      ['security.ima', 'user.a', 'user.b'].map((name) => [name, name]),
    )
  })

  it('refuses values that are too long', () => {
    expect(() => layerOf({ path: 'a', ownXattrs: [[Buffer.from('user.x'), Buffer.alloc(0x10000)]] })).toThrow(
      refused(/more than 65535/),
    )
  })

  /** Version 2, then entries: tag, permissions, id. */
  const acl = (...entries: (readonly [tag: number, permissions: number, id?: number])[]): Buffer => {
    const value = Buffer.alloc(4 + 8 * entries.length)
    value.writeUInt32LE(2)
    for (const [at, [tag, permissions, id = 0xffffffff]] of entries.entries()) {
      value.writeUInt16LE(tag, 4 + 8 * at)
      value.writeUInt16LE(permissions, 6 + 8 * at)
      value.writeUInt32LE(id, 8 + 8 * at)
    }
    return value
  }
  const [OWNER, GROUP, MASK, OTHERS] = [[0x01, 6] as const, [0x04, 4] as const, [0x10, 7] as const, [0x20, 4] as const]
  const user = (id: number) => [0x02, 7, id] as const
  const group = (id: number) => [0x08, 7, id] as const
  const WHOLE = acl(OWNER, user(1000), GROUP, MASK, OTHERS)

  it.each([
    ['owner, group and others', acl(OWNER, GROUP, OTHERS)],
    ['with named users and groups', acl(OWNER, user(1), user(2), GROUP, group(3), MASK, OTHERS)],
    ['with a mask for nobody', acl(OWNER, GROUP, MASK, OTHERS)],
  ])('keeps an access control list: %s', (_, value) => {
    const name = Buffer.from('system.posix_acl_access')
    expect(layerOf({ path: 'a', ownXattrs: [[name, value]] }).xattrs(1)).toEqual([[name, value]])
  })

  it.each([
    ['cut off', WHOLE.subarray(0, 11)],
    ['of another version', Buffer.concat([Buffer.from([3, 0, 0, 0]), WHOLE.subarray(4)])],
    ['of the owner alone', acl(OWNER)],
    ['without others', acl(OWNER, GROUP)],
    ['with a named user and no mask', acl(OWNER, user(1), GROUP, OTHERS)],
    ['with the group twice', acl(OWNER, GROUP, GROUP, OTHERS)],
    ['out of order', acl(GROUP, OWNER, OTHERS)],
    ['with permissions that there are not', acl([0x01, 8], GROUP, OTHERS)],
    ['with a tag that there is not', acl(OWNER, [0x40, 7], GROUP, OTHERS)],
    ['of a user that there is not', acl(OWNER, user(0xffffffff), GROUP, MASK, OTHERS)],
  ])('refuses an access control list that Linux does not take: %s', (_, value) => {
    expect(() => layerOf({ path: 'a', ownXattrs: [[Buffer.from('system.posix_acl_access'), value]] })).toThrow(
      refused(/"system.posix_acl_access" of "a" is not an access control list, or is one that Linux/),
    )
  })

  it.each<[string, Given]>([
    ['no list', { path: 'a', ownXattrs: [[Buffer.from('system.posix_acl_access'), acl()]] }],
    [
      'of a symbolic link',
      { path: 'a', type: 'symlink', target: 'b', ownXattrs: [[Buffer.from('system.posix_acl_access'), WHOLE]] },
    ],
    [
      'user.* of a symbolic link',
      { path: 'a', type: 'symlink', target: 'b', ownXattrs: [[Buffer.from('user.a'), WHOLE]] },
    ],
    ['user.* of a FIFO', { path: 'a', type: 'fifo', ownXattrs: [[Buffer.from('user.a'), WHOLE]] }],
    [
      'user.* of a FIFO, by a global header',
      { path: 'a', type: 'fifo', globalXattrs: [[Buffer.from('user.a'), WHOLE]] },
    ],
  ])('drops what Linux does not keep on such a file, as the engines do: %s', (_, given) => {
    expect(layerOf(given).xattrs(1)).toEqual([])
  })

  it('a default access control list is for directories', () => {
    const ownXattrs = [[Buffer.from('system.posix_acl_default'), WHOLE]] as const
    expect(layerOf({ path: 'a', type: 'directory', ownXattrs }).xattrs(1)).toHaveLength(1)
    expect(() => layerOf({ path: 'a', ownXattrs })).toThrow(refused(/which only a directory has/))
  })

  it.each([
    ['revision 2', 20, 2, 0, true],
    ['revision 3', 24, 3, 1000, true],
    ['revision 1', 12, 1, 0, false],
    ['3 bytes', 3, 0, 0, false],
    ['revision 2 in 24 bytes', 24, 2, 0, false],
    ['revision 3 of nobody', 24, 3, 0xffffffff, false],
  ])('capabilities of a file: %s', (_, length, revision, root, isTaken) => {
    const value = Buffer.alloc(length)
    if (length > 3) value[3] = revision
    if (length === 24) value.writeUInt32LE(root, 20)
    const given = { path: 'a', ownXattrs: [[Buffer.from('security.capability'), value]] } as const
    if (isTaken) expect(layerOf(given).xattrs(1)).toHaveLength(1)
    else expect(() => layerOf(given)).toThrow(refused(/is not a set of capabilities that Linux takes/))
  })

  it('an owner of 2^32-1, which is none to Linux, is root, also in an index of an older release', () => {
    const index = layerOf({ path: 'a', uid: 0xffffffff, gid: 0xffffffff, mode: 0o4755 }, { path: 'b', uid: 0xfffffffe })
    expect([1, 2].map((entry) => [index.uid(entry), index.gid(entry)])).toEqual([
      [0, 0],
      [0xfffffffe, 0],
    ])
    index.columns.entries.uid[1] = index.columns.entries.gid[1] = 0xffffffff
    const old = LayerIndex.decode(index.encode())
    expect([old.uid(1), old.gid(1)]).toEqual([0, 0])
  })

  it('a time before 1970 or behind 2^63 nanoseconds is the beginning of 1970, also in an index of an older release', () => {
    const index = layerOf(
      { path: 'a', mtime: 2 ** 52, mtimeNanos: 5 },
      { path: 'b', mtime: -1, mtimeNanos: 999_999_999 },
      { path: 'c', mtime: 9_223_372_036, mtimeNanos: 854_775_808 },
      { path: 'd', mtime: 9_223_372_036, mtimeNanos: 854_775_807 },
    )
    const times = (of: LayerIndex) => [1, 2, 3, 4].map((entry) => [of.mtime(entry), of.mtimeNanos(entry)])
    expect(times(index)).toEqual([
      [0, 0],
      [0, 0],
      [0, 0],
      [9_223_372_036, 854_775_807],
    ])
    const { mtime, nanos } = index.columns.entries
    mtime[1] = 2 ** 52
    nanos[1] = 5
    mtime[2] = -1
    expect(times(LayerIndex.decode(index.encode())).slice(0, 2)).toEqual([
      [0, 0],
      [0, 0],
    ])
  })

  it('the attributes that an index of an older release gives to the root stay', () => {
    const index = layerOf('./')
    index.columns.entries.mode[0] = 0o700
    expect(mergeLayers([LayerIndex.decode(index.encode())]).mode(0)).toBe(0o40700)
  })
})

describe('bounds', () => {
  it('data beyond the end of the tar are refused', () => {
    const built = (): IndexBuilder => {
      const builder = new IndexBuilder()
      builder.entry(
        Object.assign(new TarEntry(), { path: Buffer.from('a'), size: 100, storedSize: 100, dataOffset: 512 }),
      )
      return builder
    }
    expect(() => built().finish(611)).toThrow(refused(/"a" are said to end at byte 612 of a tar of 611/))
    expect(built().finish(612).size(1)).toBe(100)
  })

  it('more entries than the limit are refused, made-up directories among them', () => {
    const builder = new IndexBuilder({ entries: 2 })
    const put = (path: string): boolean => builder.entry(Object.assign(new TarEntry(), { path: Buffer.from(path) }))
    put('a/b')
    expect(() => put('c')).toThrow(expect.objectContaining({ code: 'limit_exceeded' }) as StrataError)
  })

  /** The index of a tar, made with no more than so many bytes. */
  const indexOf = (tar: Buffer, indexBytes: number): LayerIndex => {
    const builder = new IndexBuilder({ indexBytes })
    const reader = new TarReader(builder)
    reader.write(tar)
    reader.end()
    return builder.finish(tar.length)
  }
  const global = (bytes: number): Buffer => paxHeader(pax('SCHILY.xattr.user.a', 'v'.repeat(bytes)), 'g')
  const files = (count: number): Buffer =>
    concat(...Array.from({ length: count }, (_, n) => header({ name: `f${n}` })), ZEROS)

  it.each<[what: string, tar: Buffer]>([
    ['attributes of a global header', concat(global(60_000), files(20))],
    [
      'attributes of one entry after the other',
      concat(
        ...Array.from({ length: 20 }, (_, n) =>
          concat(paxHeader(pax('SCHILY.xattr.user.a', `${n}`.padEnd(60_000))), header({ name: `f${n}` })),
        ),
        ZEROS,
      ),
    ],
    [
      'sparse maps',
      concat(
        ...Array.from({ length: 20 }, (_, n) =>
          concat(
            paxHeader(
              pax('GNU.sparse.size', '4000') +
                pax('GNU.sparse.map', Array.from({ length: 2000 }, (_, at) => `${2 * at},1`).join(',')),
            ),
            file(`f${n}`, 'x'.repeat(2000)),
          ),
        ),
        ZEROS,
      ),
    ],
    [
      'names',
      concat(
        ...Array.from({ length: 5000 }, (_, n) =>
          concat(paxHeader(pax('path', `${n}`.padEnd(250, 'n'))), header({ name: 'f' })),
        ),
        ZEROS,
      ),
    ],
    [
      'targets of links',
      concat(
        ...Array.from({ length: 400 }, (_, n) =>
          concat(paxHeader(pax('linkpath', 'l'.repeat(4000))), header({ name: `l${n}`, type: '2' })),
        ),
        ZEROS,
      ),
    ],
    [
      'targets of hard links below',
      concat(
        ...Array.from({ length: 400 }, (_, n) =>
          concat(paxHeader(pax('linkpath', `${'d'.repeat(200)}/`.repeat(19))), header({ name: `l${n}`, type: '1' })),
        ),
        ZEROS,
      ),
    ],
    [
      'folders that names only imply',
      concat(...Array.from({ length: 2_000 }, (_, n) => header({ name: `${n}/${'d/'.repeat(16)}f` })), ZEROS),
    ],
    ['one name over and over', concat(...Array.from({ length: 20_000 }, () => header({ name: 'f' })), ZEROS)],
    ['whiteouts', concat(...Array.from({ length: 20_000 }, (_, n) => header({ name: `.wh.${n}` })), ZEROS)],
  ])('an index that grows beyond its limit by %s is refused', (_what, tar) => {
    expect(() => indexOf(tar, 1_000_000)).toThrow(
      expect.objectContaining({
        code: 'limit_exceeded',
        message: expect.stringContaining('index has more than 1000000 bytes') as string,
      }) as StrataError,
    )
    expect(indexOf(tar, 100_000_000).count).toBeGreaterThan(1)
  })

  it('folders that names only imply are few for each entry', () => {
    const deep = (count: number, depth: number): Buffer =>
      concat(
        ...Array.from({ length: count }, (_, n) =>
          concat(paxHeader(pax('path', `${n}/${'d/'.repeat(depth - 1)}f`)), header({ name: 'f' })),
        ),
        ZEROS,
      )
    expect(indexOf(deep(4, 1_000), 10 ** 9).count).toBe(1 + 4 * 1_001)
    expect(indexOf(deep(1_000, 20), 10 ** 9).count).toBe(1 + 1_000 * 21)
    expect(() => indexOf(deep(5, 1_000), 10 ** 9)).toThrow(
      expect.objectContaining({
        code: 'limit_exceeded',
        message: expect.stringMatching(/imply \d+ folders, and which has 5 entries/) as string,
      }) as StrataError,
    )
    expect(() => indexOf(deep(1_100, 20), 10 ** 9)).toThrow(/imply \d+ folders/)
  })

  it('keeps once what a global header says of every entry', () => {
    const index = indexOf(concat(global(60_000), files(10_000)), 10 ** 9)
    expect(index.encode().length).toBeLessThan(1_000_000)
    expect(
      [1, 10_000].map((entry) => index.xattrs(entry).map(([name, value]) => `${name.toString()} ${value.length}`)),
    ).toEqual([['user.a 60000'], ['user.a 60000']])
    expect(index.xattrNumbers(1)).toEqual(index.xattrNumbers(10_000))
  })

  /** What reading so many files costs below a global header of so many attributes. */
  const operations = (globals: number, count: number, own: (n: number) => string): number => {
    const many = Array.from({ length: globals }, (_, n) => pax(`SCHILY.xattr.user.${n}`, '')).join('')
    const tar = concat(
      paxHeader(many, 'g'),
      ...Array.from({ length: count }, (_, n) => concat(paxHeader(own(n)), header({ name: `f${n}` }))),
      ZEROS,
    )
    const reader = new TarReader(new IndexBuilder())
    const spies = [
      vi.spyOn(Map.prototype, 'get'),
      vi.spyOn(Map.prototype, 'set'),
      vi.spyOn(Map.prototype, 'has'),
      vi.spyOn(Buffer.prototype, 'toString'),
    ]
    try {
      reader.write(tar)
      reader.end()
      return spies.reduce((sum, spy) => sum + spy.mock.calls.length, 0)
    } finally {
      for (const spy of spies) spy.mockRestore()
    }
  }

  it.each<[what: string, own: (n: number) => string]>([
    ['one that no layer keeps', () => pax('SCHILY.xattr.trusted.z', 'v')],
    ['the same', () => pax('SCHILY.xattr.user.z', 'v')],
    ['another for each', (n) => pax('SCHILY.xattr.user.z', `${n}`)],
    ['one of the same name', (n) => pax('SCHILY.xattr.user.7', `${n}`)],
  ])('an entry with an attribute of its own, %s, costs the same below few global ones and many', (_, own) => {
    const [one, two] = [100, 200]
    // The difference of two counts of files, since the header itself costs more.
    const each = (globals: number): number =>
      (operations(globals, two, own) - operations(globals, one, own)) / (two - one)
    expect(each(254)).toBeLessThan(2 * each(1))
  })

  it('gives an entry the attributes of its global header and its own, whatever their order', () => {
    const header1 = paxHeader(pax('SCHILY.xattr.user.b', '1') + pax('SCHILY.xattr.user.d', '1'), 'g')
    const entry = (name: string, ...own: string[]): Buffer =>
      concat(paxHeader(own.map((key) => pax(`SCHILY.xattr.${key}`, '2')).join('')), header({ name }))
    const index = indexOf(
      concat(
        header1,
        entry('a', 'user.a', 'user.c', 'user.e'),
        entry('b', 'user.d', 'user.b'),
        entry('c', 'trusted.x'),
        entry('d', 'user.d', 'user.b'),
        // The same attributes as entry a, from another global header.
        paxHeader(
          ['a', 'c', 'e', 'b'].map((key) => pax(`SCHILY.xattr.user.${key}`, key === 'b' ? '1' : '2')).join(''),
          'g',
        ),
        concat(paxHeader(pax('SCHILY.xattr.user.d', '1')), header({ name: 'e' })),
        ZEROS,
      ),
      10 ** 6,
    )
    const shown = (entry: number): string =>
      index
        .xattrs(entry)
        .map(([name, value]) => `${name.toString()}=${value.toString()}`)
        .join(' ')
    expect([1, 2, 3, 4, 5].map(shown)).toEqual([
      'user.a=2 user.b=1 user.c=2 user.d=1 user.e=2',
      'user.b=2 user.d=2',
      'user.b=1 user.d=1',
      'user.b=2 user.d=2',
      'user.a=2 user.b=1 user.c=2 user.d=1 user.e=2',
    ])
    expect(index.columns.xattrs.setEnd).toHaveLength(3)
    expect(LayerIndex.decode(index.encode()).xattrs(5)).toEqual(index.xattrs(5))
  })

  it('keeps once what entries with different attributes have in common, and nothing of those that were replaced', () => {
    const own = (n: number): Buffer => concat(paxHeader(pax('SCHILY.xattr.user.b', `${n}`)), header({ name: `f${n}` }))
    const gone = concat(paxHeader(pax('SCHILY.xattr.user.gone', 'g'.repeat(50_000))), header({ name: 'f1' }))
    const index = indexOf(
      concat(global(60_000), gone, ...Array.from({ length: 100 }, (_, n) => own(n)), ZEROS),
      10 ** 9,
    )
    expect(index.encode().length).toBeLessThan(80_000)
    expect(index.xattrs(100).map(([name, value]) => `${name.toString()} ${value.length}`)).toEqual([
      'user.a 60000',
      'user.b 2',
    ])
    expect(LayerIndex.decode(index.encode()).xattrCount).toBe(101)
  })
})
