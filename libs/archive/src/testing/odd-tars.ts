import { block, file, header, pax, paxHeader, ZEROS } from './tar-bytes.js'

const concat = (...parts: Buffer[]): Buffer => Buffer.concat([...parts, ZEROS])
const sparse1 =
  pax('GNU.sparse.major', '1') +
  pax('GNU.sparse.minor', '0') +
  pax('GNU.sparse.name', 'real') +
  pax('GNU.sparse.realsize', '2000')

/** Tars that readers do not agree on, or might not. */
export const ODD_TARS: Readonly<Record<string, Buffer>> = {
  'PAX size over a header that says 0': concat(
    paxHeader(pax('size', '1024')),
    header({ name: 'outer', size: 0 }),
    file('inner', 'x'),
  ),
  'PAX size, then a long name, then the file': concat(
    paxHeader(pax('size', '3')),
    header({ name: '././@LongLink', type: 'L', size: 5 }),
    block('real\0'),
    header({ name: 'x', size: 0 }),
    block('abc'),
    file('next', 'y'),
  ),
  'two PAX headers before one file': concat(
    paxHeader(pax('path', 'one')),
    paxHeader(pax('uid', '7')),
    file('two', 'x'),
  ),
  'a size on a symbolic link': concat(header({ name: 'l', type: '2', link: 't', size: 512 }), file('inner', 'x')),
  'a size on a hard link': concat(
    file('t', 'x'),
    header({ name: 'l', type: '1', link: 't', size: 512 }),
    file('inner', 'x'),
  ),
  'a size on a folder': concat(header({ name: 'd/', type: '5', size: 512 }), file('inner', 'x')),
  'a size on a device': concat(header({ name: 'c', type: '3', major: 1, minor: 3, size: 512 }), file('inner', 'x')),
  'a v7 file whose name ends in a slash': concat(header({ name: 'd/', type: '\0', format: 'v7' })),
  'a type that nobody knows': concat(header({ name: 'q', type: 'Q', size: 3 }), block('abc'), file('next', 'y')),
  'type 7, contiguous': concat(file('c', 'abc', { type: '7' })),
  'one block of zeros in the middle': concat(file('a', 'x'), Buffer.alloc(512), file('b', 'y')),
  'entries behind the end': concat(file('a', 'x'), ZEROS, file('b', 'y')),
  'no end at all': file('a', 'x'),
  'a wrong checksum in the middle': concat(file('a', 'x'), Buffer.alloc(512, 'q'), file('b', 'y')),
  'a checksum of signed bytes': concat(file('\xff\xfe', 'ab', { format: 'v7', signed: true })),
  'a global path': concat(paxHeader(pax('path', 'g'), 'g'), file('a', 'x')),
  'a global size': concat(paxHeader(pax('size', '2'), 'g'), file('a', 'x')),
  'a NUL in a PAX path': concat(paxHeader(pax('path', 'a\0b')), file('x', 'x')),
  'a PAX record longer than its header': concat(paxHeader('99 path=a\n'), file('x', 'x')),
  'a long name and a PAX path': concat(
    paxHeader(pax('path', 'pax')),
    header({ name: '././@LongLink', type: 'L', size: 5 }),
    block('long\0'),
    file('x', 'x'),
  ),
  'a negative size': concat(header({ name: 'n', raw: { size: '\xff'.repeat(12) } }), file('next', 'y')),
  'a size with letters': concat(file('a', 'abc', { raw: { size: '3x' } }), file('next', 'y')),
  'sparse of PAX 1.0': concat(
    paxHeader(sparse1),
    header({ name: 's', size: 519 }),
    block('2\n0\n3\n1000\n4\n'),
    block('abcdefg'),
    file('next', 'y'),
  ),
  'sparse pieces that overlap': concat(
    header({
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
    block('abcdefg'),
    file('next', 'y'),
  ),
  'an old prefix in a GNU header': concat(file('n', 'x', { prefix: 'junk', format: 'gnu' })),
  'a PAX size of nothing': concat(paxHeader(pax('size', '')), file('a', 'abc'), file('next', 'y')),
}
