import { execFileSync } from 'node:child_process'
import { describe, expect, it } from 'vitest'
import { ENTRY, TarReader, writeEntry, zerosAfter, type WrittenEntry } from '../index.js'
import { ZEROS } from '../testing/tar-bytes.js'

const PLAIN = {
  path: Buffer.from('a'),
  type: ENTRY.file,
  mode: 0o644,
  uid: 0,
  gid: 0,
  size: 0,
  mtime: 0,
  mtimeNanos: 0,
} as const satisfies WrittenEntry
const bytes = (text: string): Buffer => Buffer.from(text, 'latin1')

/** What our reader makes of it, with what was not given left out. */
function readBack(entry: WrittenEntry, data = Buffer.alloc(0)): object[] {
  const seen: object[] = []
  const reader = new TarReader({
    entry(e) {
      seen.push(
        Object.assign({}, e, {
          path: e.path.toString('latin1'),
          link: e.link.toString('latin1'),
          xattrs: e.xattrs.map(([name, value]) => [name.toString('latin1'), value.toString('latin1')]),
          sparse: e.sparse?.map(({ offset, size }) => [offset, size]),
        }),
      )
      return false
    },
    data: () => undefined,
    entryEnd: () => undefined,
  })
  reader.write(Buffer.concat([writeEntry(entry), data, zerosAfter(data.length), ZEROS]))
  reader.end()
  return seen
}

describe('an entry that is written', () => {
  it.each<[string, Partial<WrittenEntry>, Record<string, unknown>]>([
    ['plain', {}, { path: 'a', size: 0, mode: 0o644 }],
    ['a name of 100 bytes that are no text', { path: Buffer.alloc(100, 0xff) }, { path: '\xff'.repeat(100) }],
    [
      'a long name',
      { path: Buffer.from(`${'n'.repeat(250)}/é`) },
      { path: bytes(Buffer.from(`${'n'.repeat(250)}/é`).toString('latin1')).toString('latin1') },
    ],
    ['a long name that is no text', { path: Buffer.alloc(101, 0xff) }, { path: '\xff'.repeat(101) }],
    [
      'a long link',
      { type: ENTRY.symlink, link: Buffer.alloc(4000, 'l') },
      { type: ENTRY.symlink, link: 'l'.repeat(4000) },
    ],
    ['large owners', { uid: 0xffffffff, gid: 2097152 }, { uid: 0xffffffff, gid: 2097152 }],
    ['a time with a part', { mtime: 5, mtimeNanos: 120_000_000 }, { mtime: 5, mtimeNanos: 120_000_000 }],
    ['a time before 1970', { mtime: -2, mtimeNanos: 750_000_000 }, { mtime: -2, mtimeNanos: 750_000_000 }],
    ['a time just before 1970', { mtime: -1, mtimeNanos: 1 }, { mtime: -1, mtimeNanos: 1 }],
    ['a time long after', { mtime: 8 ** 11 }, { mtime: 8 ** 11 }],
    [
      'a device',
      { type: ENTRY.block, devMajor: 4095, devMinor: 1048575 },
      { type: ENTRY.block, devMajor: 4095, devMinor: 1048575 },
    ],
    [
      'attributes; one with a sign in its name is in libarchive’s form, which we do not read',
      {
        xattrs: [
          [bytes('user.a'), bytes('v\n=\0')],
          [bytes('user.\xff=b%'), bytes('w')],
        ],
      },
      {
        xattrs: [['user.a', 'v\n=\0']],
      },
    ],
  ])('%s', (_what, given, expected) => {
    expect(readBack({ ...PLAIN, ...given })).toMatchObject([expected])
    expect(writeEntry({ ...PLAIN, ...given }).equals(writeEntry({ ...PLAIN, ...given }))).toBe(true)
  })

  it('a record whose length has one digit more for counting itself', () => {
    for (let length = 80; length < 120; length++)
      expect(readBack({ ...PLAIN, path: Buffer.alloc(length + 30, 'p') })).toMatchObject([
        { path: 'p'.repeat(length + 30) },
      ])
  })

  it('a sparse file of 100 GB', () => {
    const sparse = [
      { offset: 4096, size: 3 },
      { offset: 99_999_999_999, size: 1 },
    ]
    expect(readBack({ ...PLAIN, size: 100_000_000_000, sparse }, Buffer.from('abcd'))).toMatchObject([
      {
        path: 'a',
        size: 100_000_000_000,
        sparse: [
          [4096, 3],
          [99_999_999_999, 1],
        ],
      },
    ])
    expect(readBack({ ...PLAIN, size: 1000, sparse: [] })).toMatchObject([{ size: 1000, sparse: [] }])
  })

  it('GNU tar reads the same', () => {
    const tar = Buffer.concat([
      writeEntry({ ...PLAIN, path: Buffer.from('d/'), type: ENTRY.directory, mode: 0o1777, mtime: 5 }),
      writeEntry({ ...PLAIN, path: Buffer.from(`d/${'n'.repeat(200)}`), size: 3, uid: 4_000_000_000 }),
      Buffer.from('abc'),
      zerosAfter(3),
      writeEntry({ ...PLAIN, path: Buffer.from('d/s'), size: 5000, sparse: [{ offset: 4096, size: 2 }] }),
      Buffer.from('xy'),
      zerosAfter(2),
      ZEROS,
    ])
    const listed = execFileSync('tar', ['-tvf', '-', '--numeric-owner', '--utc'], { input: tar, encoding: 'utf8' })
      .split('\n')
      .map((line) => line.split(/\s+/))
    expect(listed.map(([mode, owner, size, , , name]) => [mode, owner, size, name])).toEqual([
      ['drwxrwxrwt', '0/0', '0', 'd/'],
      ['-rw-r--r--', '4000000000/0', '3', `d/${'n'.repeat(200)}`],
      ['-rw-r--r--', '0/0', '5000', 'd/s'],
      ['', undefined, undefined, undefined],
    ])
    // Into a file: GNU tar seeks over holes, which a pipe cannot.
    const script = 'd=$(mktemp -d) && tar -C "$d" -xf - d/s && cat "$d/d/s"; rm -r "$d"'
    expect(
      execFileSync('sh', ['-c', script], { input: tar }).equals(
        Buffer.concat([Buffer.alloc(4096), Buffer.from('xy'), Buffer.alloc(902)]),
      ),
    ).toBe(true)
  })
})
