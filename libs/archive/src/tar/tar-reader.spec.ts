import { execFileSync } from 'node:child_process'
import { describe, expect, it, vi } from 'vitest'
import { ENTRY, TarReader, type TarEntry, type TarLimits } from '../index.js'
import { block, concat, file, header, pax, paxHeader, ZEROS } from '../testing/tar-bytes.js'

interface Seen {
  path: string
  type: number
  link: string
  mode: number
  uid: number
  gid: number
  size: number
  storedSize: number
  dataOffset: number
  mtime: number
  mtimeNanos: number
  dev: string
  xattrs: [string, string][]
  sparse: TarEntry['sparse']
  data: string
}

function read(tar: Uint8Array, piece = tar.length, limits: Partial<TarLimits> = {}): Seen[] {
  const seen: Seen[] = []
  const parts: Buffer[] = []
  const reader = new TarReader(
    {
      entry(e) {
        seen.push({
          path: e.path.toString('latin1'),
          type: e.type,
          link: e.link.toString('latin1'),
          mode: e.mode,
          uid: e.uid,
          gid: e.gid,
          size: e.size,
          storedSize: e.storedSize,
          dataOffset: e.dataOffset,
          mtime: e.mtime,
          mtimeNanos: e.mtimeNanos,
          dev: `${e.devMajor}:${e.devMinor}`,
          xattrs: e.xattrs.map(([name, value]) => [name.toString('latin1'), value.toString('latin1')]),
          sparse: e.sparse,
          data: '',
        })
        return true
      },
      data: (view) => void parts.push(Buffer.from(view)),
      entryEnd() {
        seen.at(-1)!.data = Buffer.concat(parts.splice(0)).toString('latin1')
      },
    },
    limits,
  )
  // Each piece is a buffer that is overwritten afterwards, as a ring's slot is: a view kept too
  // long shows.
  for (let at = 0; at < tar.length; at += piece) {
    const slot = Buffer.from(tar.subarray(at, at + piece))
    reader.write(slot)
    slot.fill(0x78)
  }
  reader.end()
  return seen
}
/** As from a file: what is unread is passed over. Without data. */
function readHeaders(tar: Uint8Array, window: number): string[] {
  const seen: string[] = []
  const reader = new TarReader({
    entry: (e) => (
      seen.push(`${e.path.toString('latin1')}:${e.type}:${e.size}:${e.dataOffset}:${JSON.stringify(e.sparse)}`),
      false
    ),
    data: () => expect.unreachable(),
    entryEnd: () => void seen.push('end'),
  })
  for (let at = 0; at < tar.length;) {
    reader.write(tar.subarray(at, at + window))
    at = Math.min(at + window, tar.length)
    while (reader.unread > 0 && at < tar.length) {
      const count = Math.min(reader.unread, tar.length - at)
      reader.pass(count)
      at += count
    }
  }
  reader.end()
  return seen
}
const brief = (tar: Uint8Array) => read(tar).map((e) => `${e.path}:${e.type}:${e.data}`)
const codeOf = (act: () => unknown): unknown => {
  try {
    act()
    return 'no error'
  } catch (error) {
    return (error as { code: unknown }).code
  }
}

const sparse10Map = block('2\n0\n3\n1000\n4\n')
/** name → tar without its end, and what of its entries matters. */
const ODD: Record<string, [tar: Buffer, expected: Partial<Seen>[]]> = {
  'v7 with signed checksum and a name that is not ASCII': [
    file('\xff\xfe', 'ab', { format: 'v7', signed: true }),
    [{ path: '\xff\xfe', data: 'ab' }],
  ],
  'v7 folder by its slash': [header({ name: 'd/', type: '\0', format: 'v7' }), [{ path: 'd/', type: ENTRY.directory }]],
  'ustar prefix': [file('n', 'x', { prefix: 'a/b' }), [{ path: 'a/b/n' }]],
  'gnu has no prefix': [file('n', 'x', { prefix: 'junk', format: 'gnu' }), [{ path: 'n' }]],
  'name of 100 bytes without NUL': [file('n'.repeat(100), 'x'), [{ path: 'n'.repeat(100) }]],
  'octal padded by spaces and NULs': [
    file('n', 'abc', { raw: { size: ' 3 \0', mode: '\0 755 ', uid: '', mtime: '   12\0' } }),
    [{ size: 3, mode: 0o755, uid: 0, mtime: 10 }],
  ],
  'base-256': [
    file('n', 'x', {
      raw: { uid: '\x80\0\0\0\x7f\xff\xff\xff', mtime: '\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe' },
    }),
    [{ uid: 0x7fffffff, mtime: -2 }],
  ],
  'pax local': [
    concat(
      paxHeader(
        pax('path', 'long/\xc3\xa9') +
          pax('mtime', '-1.25') +
          pax('uid', '4000000000') +
          pax('SCHILY.xattr.user.a', 'v=\n\0') +
          pax('LIBARCHIVE.xattr.user.%41', 'aGk=') +
          pax('SCHILY.acl.access', 'user::rw-,group::r--,other::r--'),
      ),
      file('short', 'x'),
      file('next', 'y'),
    ),
    [
      {
        path: 'long/\xc3\xa9',
        mtime: -2,
        mtimeNanos: 750_000_000,
        uid: 4000000000,
        xattrs: [['user.a', 'v=\n\0']],
      },
      { path: 'next', xattrs: [] },
    ],
  ],
  'pax global': [
    concat(
      paxHeader(pax('uid', '7') + pax('comment', 'c'), 'g'),
      file('a', 'x'),
      paxHeader(pax('uid', '8')),
      file('b', 'y'),
      file('c', 'z'),
    ),
    [{ uid: 7 }, { uid: 8 }, { uid: 7 }],
  ],
  'pax global taken back': [
    concat(paxHeader(pax('uid', '7'), 'g'), paxHeader(pax('uid', ''), 'g'), file('a', 'x')),
    [{ uid: 1000 }],
  ],
  'pax size is for the file, not for the long name between': [
    concat(
      paxHeader(pax('size', '3')),
      header({ name: '././@LongLink', type: 'L', size: 5 }),
      block('real\0'),
      header({ name: 'x', size: 0 }),
      block('abc'),
      file('next', 'y'),
    ),
    [
      { path: 'real', size: 3, data: 'abc' },
      { path: 'next', data: 'y' },
    ],
  ],
  'pax size is for the file, not for the next pax header': [
    concat(
      paxHeader(pax('size', '1024')),
      paxHeader(pax('path', 'p')),
      header({ name: 'x', size: 0 }),
      file('next', 'y'),
    ),
    [{ path: 'p', size: 0 }, { path: 'next' }],
  ],
  'a tar in a tar is not opened by a ustar size of 0': [
    concat(paxHeader(pax('size', '1024')), header({ name: 'outer', size: 0 }), file('smuggled', 'bad')),
    [{ path: 'outer', size: 1024 }],
  ],
  'long name and long link': [
    concat(
      header({ name: '././@LongLink', type: 'K', size: 300 }),
      block('t'.repeat(300)),
      header({ name: '././@LongLink', type: 'L', size: 201 }),
      block(`${'n'.repeat(200)}\0`),
      header({ name: 'x', type: '2', link: 'y' }),
    ),
    [{ path: 'n'.repeat(200), link: 't'.repeat(300), type: ENTRY.symlink }],
  ],
  'a size on what has no data': [
    concat(...['1', '2', '3', '4', '5', '6'].map((type) => header({ name: type, type, size: 512 })), file('f', 'x')),
    ['1', '2', '3', '4', '5', '6', 'f'].map((path) => ({ path, size: path === 'f' ? 1 : 0 })),
  ],
  'device numbers': [header({ name: 'c', type: '3', major: 5, minor: 1 }), [{ type: ENTRY.char, dev: '5:1' }]],
  'volume label and dump directory': [
    concat(
      header({ name: 'label', type: 'V' }),
      header({ name: 'd/', type: 'D', size: 4 }),
      block('Yx\0\0'),
      file('f', 'x'),
    ),
    [{ path: 'd/', type: ENTRY.directory, size: 0 }, { path: 'f' }],
  ],
  'old GNU sparse': [
    concat(
      header({
        name: 's',
        type: 'S',
        size: 7,
        format: 'gnu',
        sparse: [
          [0, 3],
          [1000, 4],
        ],
        realSize: 2000,
      }),
      block('abcdefg'),
      file('next', 'y'),
    ),
    [
      {
        path: 's',
        size: 2000,
        storedSize: 7,
        data: 'abcdefg',
        sparse: [
          { offset: 0, size: 3, dataOffset: 512 },
          { offset: 1000, size: 4, dataOffset: 515 },
        ],
      },
      { path: 'next' },
    ],
  ],
  'old GNU sparse with an extension block': [
    concat(
      header({
        name: 's',
        type: 'S',
        size: 5,
        format: 'gnu',
        sparse: [
          [0, 1],
          [10, 1],
          [20, 1],
          [30, 1],
        ],
        realSize: 2000,
        more: true,
      }),
      block(`${'00000000050\0' + '00000000001\0'}${'00000003720\0' + '00000000000\0'}`),
      block('abcde'),
      file('next', 'y'),
    ),
    [{ path: 's', size: 2000, storedSize: 5, dataOffset: 1024, data: 'abcde' }, { path: 'next' }],
  ],
  'pax sparse 0.0': [
    concat(
      paxHeader(
        pax('GNU.sparse.size', '2000') +
          pax('GNU.sparse.numblocks', '2') +
          pax('GNU.sparse.offset', '0') +
          pax('GNU.sparse.numbytes', '3') +
          pax('GNU.sparse.offset', '1000') +
          pax('GNU.sparse.numbytes', '4'),
      ),
      file('s', 'abcdefg'),
    ),
    [
      {
        path: 's',
        size: 2000,
        data: 'abcdefg',
        sparse: [
          { offset: 0, size: 3, dataOffset: 1536 },
          { offset: 1000, size: 4, dataOffset: 1539 },
        ],
      },
    ],
  ],
  'pax sparse 0.1': [
    concat(
      paxHeader(pax('GNU.sparse.name', 'real') + pax('GNU.sparse.size', '2000') + pax('GNU.sparse.map', '0,3,1000,4')),
      file('s', 'abcdefg'),
    ),
    [{ path: 'real', size: 2000, storedSize: 7 }],
  ],
  'pax sparse 1.0': [
    concat(
      paxHeader(
        pax('GNU.sparse.major', '1') +
          pax('GNU.sparse.minor', '0') +
          pax('GNU.sparse.name', 'real') +
          pax('GNU.sparse.realsize', '2000'),
      ),
      header({ name: 's', size: 519 }),
      sparse10Map,
      block('abcdefg'),
      file('next', 'y'),
    ),
    [
      {
        path: 'real',
        size: 2000,
        storedSize: 7,
        dataOffset: 2048,
        data: 'abcdefg',
        sparse: [
          { offset: 0, size: 3, dataOffset: 2048 },
          { offset: 1000, size: 4, dataOffset: 2051 },
        ],
      },
      { path: 'next', data: 'y' },
    ],
  ],
}

describe('TarReader', () => {
  for (const [name, [tar, expected]] of Object.entries(ODD)) {
    it(name, () => {
      const whole = concat(tar, ZEROS)
      expect(read(whole)).toMatchObject(expected)
      expect(read(whole)).toHaveLength(expected.length)
      for (const piece of [1, 7, 511, 512, 513, 1024]) expect(read(whole, piece)).toEqual(read(whole))
      const headers = read(whole).flatMap((e) => [
        `${e.path}:${e.type}:${e.size}:${e.dataOffset}:${JSON.stringify(e.sparse)}`,
        'end',
      ])
      for (const window of [1, 100, 512, 1536, whole.length]) expect(readHeaders(whole, window)).toEqual(headers)
      expect(readHeaders(concat(whole, Buffer.alloc(2000, 'x')), 512)).toEqual(headers)
    })
  }

  it('ends at two blocks of zeros, and accepts an end without them or without the last padding', () => {
    const tar = file('f', 'abc')
    expect(brief(concat(tar, ZEROS, file('behind', 'x')))).toEqual(['f:0:abc'])
    expect(brief(concat(tar, ZEROS, Buffer.from('rubbish')))).toEqual(['f:0:abc'])
    expect(brief(tar)).toEqual(['f:0:abc'])
    expect(brief(tar.subarray(0, 515))).toEqual(['f:0:abc'])
    expect(brief(concat(tar, block('')))).toEqual(['f:0:abc'])
    expect(brief(ZEROS)).toEqual([])
  })

  it.each([1, 300, 511])('says of %i bytes that they are no tar, whatever they are', (length) => {
    for (const bytes of [Buffer.alloc(length), Buffer.alloc(length, 'x'), file('f', 'x').subarray(0, length)])
      expect(() => read(bytes)).toThrow(new RegExp(`this is not a tar: it has ${length} bytes?, and`))
  })

  it('says archive_truncated wherever an entry is cut', () => {
    const tar = concat(
      paxHeader(pax('path', 'long')),
      header({ name: '././@LongLink', type: 'K', size: 5 }),
      block('link\0'),
      file('f', 'x'.repeat(700)),
    )
    const dataEnd = tar.length - 324
    for (let length = 1; length < dataEnd; length += 13)
      expect(
        codeOf(() => read(tar.subarray(0, length))),
        `cut at ${length}`,
      ).toBe(length < 512 ? 'archive_invalid' : 'archive_truncated')
    for (const length of [512, 1024, 1536, 2048, 2560, dataEnd - 1])
      expect(
        codeOf(() => readHeaders(tar.subarray(0, length), 512)),
        `cut at ${length}`,
      ).toBe('archive_truncated')
    expect(codeOf(() => readHeaders(tar.subarray(0, dataEnd), 512))).toBe('no error')
    for (const length of [512, 1024, 1536, 2048, 2560, dataEnd - 1])
      expect(
        codeOf(() => read(tar.subarray(0, length))),
        `cut at ${length}`,
      ).toBe('archive_truncated')
    expect(codeOf(() => read(tar.subarray(0, dataEnd)))).toBe('no error')
  })

  const BAD: Record<string, Buffer> = {
    'no tar': Buffer.alloc(1024, 'hello'),
    'damaged later': concat(file('a', 'x'), Buffer.alloc(512, 'x')),
    'one block of zeros in the middle': concat(file('a', 'x'), block(''), file('b', 'y')),
    'size not a number': file('a', 'x', { raw: { size: '12x' } }),
    'negative size': file('a', '', { raw: { size: '\xff'.repeat(12) } }),
    'size beyond 2^53': file('a', '', { raw: { size: `\x80\0\0\0${'\xff'.repeat(8)}` } }),
    'unknown type': header({ name: 'a', type: 'Q' }),
    'pax record without length': concat(paxHeader('x path=a\n'), file('a', 'x')),
    'pax record longer than the header': concat(paxHeader('99 path=a\n'), file('a', 'x')),
    'pax record without newline': concat(paxHeader('10 path=ab'), file('a', 'x')),
    'pax record without key': concat(paxHeader('5 =a\n'), file('a', 'x')),
    'pax record without =': concat(paxHeader(`7 path\n${pax('uid', '1')}`), file('a', 'x')),
    'NUL in a pax path': concat(paxHeader(pax('path', 'a\0b')), file('a', 'x')),
    'pax size not a number': concat(paxHeader(pax('size', '0x10')), file('a', 'x')),
    'pax size beyond 2^53': concat(paxHeader(pax('size', '9999999999999999')), file('a', 'x')),
    'global path': concat(paxHeader(pax('path', 'a'), 'g'), file('a', 'x')),
    'sparse pieces overlap': header({
      name: 's',
      type: 'S',
      size: 7,
      format: 'gnu',
      sparse: [
        [0, 3],
        [1, 4],
      ],
      realSize: 2000,
    }),
    'sparse pieces beyond the file': header({
      name: 's',
      type: 'S',
      size: 7,
      format: 'gnu',
      sparse: [
        [0, 3],
        [1997, 4],
      ],
      realSize: 2000,
    }),
    'sparse pieces not adding up': header({
      name: 's',
      type: 'S',
      size: 8,
      format: 'gnu',
      sparse: [
        [0, 3],
        [1000, 4],
      ],
      realSize: 2000,
    }),
    'sparse map that never ends': concat(
      paxHeader(pax('GNU.sparse.major', '1') + pax('GNU.sparse.minor', '0') + pax('GNU.sparse.realsize', '9')),
      header({ name: 's', size: 512 }),
      block('900\n' + '1\n'.repeat(254)),
    ),
    'sparse map of letters': concat(
      paxHeader(pax('GNU.sparse.major', '1') + pax('GNU.sparse.minor', '0') + pax('GNU.sparse.realsize', '9')),
      header({ name: 's', size: 1024 }),
      block('a\n'),
    ),
  }
  for (const [name, tar] of Object.entries(BAD))
    it(`refuses: ${name}`, () => expect(codeOf(() => read(tar))).toBe('archive_invalid'))

  it('holds its limits', () => {
    const two = concat(file('a', 'x'), file('b', 'y'))
    expect(codeOf(() => read(two, two.length, { entries: 1 }))).toBe('limit_exceeded')
    expect(codeOf(() => read(two, two.length, { entries: 2 }))).toBe('no error')
    const long = (length: number) => concat(paxHeader(pax('path', 'n'.repeat(length))), file('a', 'x'))
    expect(codeOf(() => read(long(4096)))).toBe('no error')
    expect(codeOf(() => read(long(4097)))).toBe('limit_exceeded')
    const deep = (depth: number) => concat(paxHeader(pax('path', Array(depth).fill('d').join('/'))), file('a', 'x'))
    expect(codeOf(() => read(deep(1024)))).toBe('no error')
    expect(codeOf(() => read(deep(1025)))).toBe('limit_exceeded')
    expect(codeOf(() => read(header({ name: 'x', type: 'x', size: 1024 * 1024 + 1 })))).toBe('limit_exceeded')
    const attributes = (count: number) =>
      paxHeader(Array.from({ length: count }, (_, n) => pax(`SCHILY.xattr.user.${n}`, 'x')).join(''))
    expect(codeOf(() => read(concat(attributes(255), file('x', ''), ZEROS)))).toBe('no error')
    expect(codeOf(() => read(concat(attributes(256), file('x', ''), ZEROS)))).toBe('limit_exceeded')
    expect(codeOf(() => read(header({ name: 'x', type: 'L', size: 2 ** 40 })))).toBe('limit_exceeded')
    const endless = block('00000000000\0'.repeat(42) + '\x01')
    expect(
      codeOf(() =>
        read(
          concat(
            header({ name: 's', type: 'S', format: 'gnu', more: true, realSize: 10 }),
            ...Array<Buffer>(2100).fill(endless),
          ),
        ),
      ),
    ).toBe('limit_exceeded')
  })

  it('refuses an entry whose own and global attributes are too many together', () => {
    const attributes = (from: number, to: number, type: 'g' | 'x') =>
      paxHeader(Array.from({ length: to - from }, (_, n) => pax(`SCHILY.xattr.user.${from + n}`, type)).join(''), type)
    const [both] = read(concat(attributes(0, 200, 'g'), attributes(100, 255, 'x'), file('x', ''), ZEROS))
    expect([both!.xattrs.length, both!.xattrs.filter(([, value]) => value === 'x').length]).toEqual([255, 155])
    expect(codeOf(() => read(concat(attributes(0, 200, 'g'), attributes(100, 256, 'x'), file('x', ''), ZEROS)))).toBe(
      'limit_exceeded',
    )
  })

  it('compares no record of a header with those before it', () => {
    const names = Array.from({ length: 255 }, (_, n) => pax(`SCHILY.xattr.user.${n}`, '')).join('')
    const last = pax('SCHILY.xattr.user.254', 'x')
    const records = names + last.repeat(Math.floor((1024 * 1024 - names.length) / last.length))
    const equals = vi.spyOn(Buffer.prototype, 'equals')
    const entries = read(concat(paxHeader(records), file('x', ''), ZEROS))
    expect(equals).not.toHaveBeenCalled()
    equals.mockRestore()
    expect(entries[0]!.xattrs).toHaveLength(255)
    expect(entries[0]!.xattrs.at(-1)).toEqual(['user.254', 'x'])
  })

  it('gives all entries below one global header the same list of attributes', () => {
    const lists: unknown[] = []
    const reader = new TarReader({
      entry: ({ globalXattrs }) => (lists.push(globalXattrs), false),
      data: () => undefined,
      entryEnd: () => undefined,
    })
    const own = paxHeader(pax('SCHILY.xattr.user.b', 'c'))
    const other = paxHeader(pax('uid', '7'), 'g')
    reader.write(
      concat(
        paxHeader(pax('SCHILY.xattr.user.a', 'b'), 'g'),
        file('x', ''),
        own,
        file('y', 'z'),
        other,
        file('z', ''),
        ZEROS,
      ),
    )
    expect(lists[0]).toHaveLength(1)
    expect(lists[1]).toBe(lists[0])
    expect(lists[2]).toBe(lists[0])
  })

  it.each(['1,2,3,', ',1', '1,,2', '1,x', '1-2', '1'.repeat(17), '9007199254740993,1'])(
    'the sparse map %j is refused',
    (map) => {
      expect(
        codeOf(() =>
          read(concat(paxHeader(pax('GNU.sparse.map', map) + pax('GNU.sparse.size', '9')), file('x', ''), ZEROS)),
        ),
      ).toBe('archive_invalid')
    },
  )

  it('reads what GNU tar writes', () => {
    const script =
      'cd "$(mktemp -d)" && mkdir -p d/e && printf abc >d/e/f && ln d/e/f d/h && ln -s ../t d/s && mkfifo d/p && truncate -s 1M d/z && printf end >>d/z && printf x >"$(printf "%0150d" 0)" && tar -cS --sort=name --format="$1" --owner=5:5 --group=6:6 * && rm -rf "$PWD"'
    for (const format of ['gnu', 'pax', 'oldgnu']) {
      const tar = execFileSync('sh', ['-c', script, 'sh', format])
      const entries = read(tar).map((e) => `${e.path} ${e.type} ${e.size} ${e.storedSize} ${e.link} ${e.uid}`)
      const long = '0'.repeat(150)
      expect(entries).toEqual([
        `${long} 0 1 1  5`,
        'd/ 5 0 0  5',
        'd/e/ 5 0 0  5',
        'd/e/f 0 3 3  5',
        'd/h 1 0 0 d/e/f 5',
        'd/p 6 0 0  5',
        'd/s 2 0 0 ../t 5',
        expect.stringMatching(/^d\/z 0 1048579 \d{1,5} {2}5$/),
      ])
      expect(read(tar, 511)).toEqual(read(tar))
    }
  })
})
