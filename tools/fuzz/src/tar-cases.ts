import { block, file, header, pax, paxHeader, ZEROS } from '@strata/archive/testing'
import type { Random } from './random.js'

const NAMES = [
  'a',
  'b',
  'a/b',
  'a/b/c',
  './a',
  '/a',
  'a//b/',
  'a/',
  '..',
  '../a',
  'a/../b',
  '.',
  './',
  '/',
  '',
  '.wh.a',
  '.wh.',
  '.wh..',
  '.wh..wh..opq',
  'a/.wh..wh..opq',
  'a/.wh.b',
  '.wh.a/b',
  '.wh..wh.plnk',
  'etc/passwd',
  '\xff\xfe',
  'é',
  'a\nb',
  'n'.repeat(100),
  'd/'.repeat(50),
]
const TYPES = [
  '0',
  '\0',
  '1',
  '2',
  '3',
  '4',
  '5',
  '6',
  '7',
  'S',
  'V',
  'D',
  'M',
  'N',
  'A',
  'x',
  'X',
  'g',
  'L',
  'K',
  'Q',
  '\xff',
]
const NUMBERS = [
  '',
  '0',
  '1',
  '00000000001',
  '777',
  '7777777',
  '-1',
  ' 12 ',
  '8',
  'x',
  '\x80\0\0\0\0\0\0\0\0\0\0\x05',
  '\xff'.repeat(12),
  '\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff',
  '77777777777',
]
const SIZES = [0, 0, 0, 1, 3, 511, 512, 513, 1024, 5000, 2 ** 20 + 1, 2 ** 33]
const KEYS = [
  'path',
  'linkpath',
  'size',
  'uid',
  'gid',
  'mtime',
  'atime',
  'uname',
  'comment',
  'hdrcharset',
  'SCHILY.xattr.user.a',
  'SCHILY.xattr.security.capability',
  'SCHILY.xattr.trusted.x',
  'LIBARCHIVE.xattr.user.%41',
  'SCHILY.acl.access',
  'GNU.sparse.major',
  'GNU.sparse.minor',
  'GNU.sparse.name',
  'GNU.sparse.realsize',
  'GNU.sparse.size',
  'GNU.sparse.numblocks',
  'GNU.sparse.offset',
  'GNU.sparse.numbytes',
  'GNU.sparse.map',
  '__proto__',
  '',
  '=',
]
const VALUES = [
  '',
  '0',
  '1',
  '3',
  '512',
  '1000',
  '1024',
  '-1',
  '1.5',
  '-1.25',
  '9007199254740993',
  '1e3',
  'x',
  '0,3,1000,4',
  '0,0',
  '3,1,1,1',
  'aGk=',
  'u::rwx,g::r-x,o::r-x',
  'a\0b',
  '../..',
  'l'.repeat(5000),
]

/**
 * A tar as no tool writes it: headers of every kind with any field, most of them right in what the
 * case is not about; then bytes and blocks changed.
 */
export function makeTar(random: Random, depth = 0): Buffer {
  const parts = random.some(10, () => makePart(random, depth))
  if (!random.once(6)) parts.push(ZEROS)
  return random.once(2) ? mutate(Buffer.concat(parts), random) : Buffer.concat(parts)
}

function makePart(random: Random, depth: number): Buffer {
  const name = random.of(NAMES)
  switch (random.number(10)) {
    case 0:
    case 1:
      return file(name, 'x'.repeat(random.number(1200)), { format: random.of(['ustar', 'gnu', 'v7']) })
    case 2:
      return header({ name, type: '5' })
    case 3:
      return header({ name, type: random.of(['1', '2']), link: random.of(NAMES) })
    case 4: {
      const field = random.of(['mode', 'uid', 'gid', 'size', 'mtime'] as const)
      return Buffer.concat([
        header({
          name,
          type: random.of(TYPES),
          raw: { [field]: random.of(NUMBERS) },
          ...(random.once(2) ? { major: random.number(9000), minor: random.number(9) } : {}),
        }),
        ...random.some(2, () => block('data')),
      ])
    }
    case 5: {
      const size = random.of(SIZES)
      return Buffer.concat([
        header({ name, type: random.of(TYPES), size, link: random.of(NAMES) }),
        Buffer.alloc(Math.min(size, random.once(4) ? 600 : 8192)),
        Buffer.alloc((512 - (size % 512)) % 512),
      ])
    }
    case 6:
      return Buffer.concat([
        paxHeader(random.some(5, () => makeRecord(random)).join(''), random.of(['x', 'x', 'g'])),
        file(name, 'abcdefg'),
      ])
    case 7: {
      const long = random.of(NAMES).repeat(1 + random.number(60))
      return Buffer.concat([
        header({ name: '././@LongLink', type: random.of(['L', 'K']), size: long.length + 1 }),
        block(`${long}\0`),
        random.once(3) ? Buffer.alloc(0) : file('short', 'x'),
      ])
    }
    case 8:
      return makeSparse(random)
    default:
      if (random.once(3)) return random.of([Buffer.alloc(512), Buffer.alloc(512, 'x'), ZEROS])
      return depth < 2 ? file(name, makeTar(random, depth + 1)) : file(name, '')
  }
}

function makeRecord(random: Random): string {
  const record = pax(random.of(KEYS), random.of(VALUES))
  return random.once(12) ? record.replace(/^\d+/, String(random.number(2000))) : record
}

function makeSparse(random: Random): Buffer {
  const pieces = random.some(4, (): [number, number] => [random.number(3000), random.number(4)])
  if (random.once(2)) pieces.sort(([a], [b]) => a - b)
  const stored = pieces.reduce((sum, [, size]) => sum + size, 0) + (random.once(6) ? 1 : 0)
  const realSize = random.of([0, 10, 3003, 5000, 2 ** 33])
  if (random.once(2))
    return Buffer.concat([
      header({ name: 's', type: 'S', format: 'gnu', size: stored, sparse: pieces, realSize, more: random.once(4) }),
      ...random.some(2, () => block('00000000000\x0000000000000\0')),
      stored > 0 ? block('s'.repeat(stored)) : Buffer.alloc(0),
    ])
  const map = block(`${pieces.length}\n${pieces.flat().join('\n')}\n`)
  const records =
    pax('GNU.sparse.major', '1') +
    pax('GNU.sparse.minor', '0') +
    pax('GNU.sparse.name', random.of(NAMES)) +
    pax('GNU.sparse.realsize', String(realSize))
  return Buffer.concat([
    paxHeader(records),
    header({ name: 's', size: map.length + stored }),
    map,
    stored > 0 ? block('s'.repeat(stored)) : Buffer.alloc(0),
  ])
}

/**
 * Bytes set, blocks doubled, moved, dropped, the end cut; changed headers mostly get a right
 * checksum, without which nothing behind it is reached.
 */
function mutate(tar: Buffer, random: Random): Buffer {
  let bytes = Buffer.from(tar)
  for (let changes = 1 + random.number(4); changes > 0 && bytes.length >= 512; changes--) {
    const blocks = Math.floor(bytes.length / 512)
    const at = random.number(blocks) * 512
    const one = bytes.subarray(at, at + 512)
    switch (random.number(6)) {
      case 0:
        bytes = Buffer.concat([bytes.subarray(0, at), one, bytes.subarray(at)])
        break
      case 1:
        bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 512)])
        break
      case 2:
        bytes = Buffer.from(bytes.subarray(0, random.number(bytes.length)))
        break
      default:
        one[random.once(2) ? random.number(512) : random.of([0, 100, 124, 135, 156, 157, 257, 263, 345, 386, 482])] =
          random.of([0, 0x20, 0x30, 0x31, 0x37, 0x38, 0x80, 0xff, random.number(256)])
        if (!random.once(4)) sign(one)
    }
  }
  return bytes
}

function sign(block: Buffer): void {
  block.fill(0x20, 148, 156)
  block.write(
    `${block
      .reduce((sum, byte) => sum + byte, 0)
      .toString(8)
      .padStart(6, '0')}\0 `,
    148,
    'latin1',
  )
}
