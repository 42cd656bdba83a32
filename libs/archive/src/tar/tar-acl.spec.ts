import { describe, expect, it } from 'vitest'
import { TarReader } from '../index.js'
import { aclFromText } from './tar-acl.js'
import { concat, file, pax, paxHeader, ZEROS } from '../testing/tar-bytes.js'

/** The rows of the kernel's form. */
function rows(text: string): number[][] | undefined {
  const value = aclFromText(text)
  if (!value) return undefined
  expect(value.readUInt32LE(0)).toBe(2)
  return Array.from({ length: (value.length - 4) / 8 }, (_, at) => [
    value.readUInt16LE(4 + 8 * at),
    value.readUInt16LE(6 + 8 * at),
    value.readUInt32LE(8 + 8 * at),
  ])
}
const NO_ID = 0xffffffff

describe('an access control list', () => {
  it.each<[string, string, number[][]]>([
    [
      'as GNU tar writes it',
      'user::rw-,user:1000:r--,group::r--,mask::r--,other::---',
      [
        [1, 6, NO_ID],
        [2, 4, 1000],
        [4, 4, NO_ID],
        [16, 4, NO_ID],
        [32, 0, NO_ID],
      ],
    ],
    [
      'as getfacl does',
      'user::rwx\ngroup::r-x\t#effective:r--\nother::r-x\n',
      [
        [1, 7, NO_ID],
        [4, 5, NO_ID],
        [32, 5, NO_ID],
      ],
    ],
    [
      'with numbers behind names',
      'other::r--,mask:rwx,group:staff:rw-:50,group::r--,user:bob:r--:7,user:al:r--:5,user::rwx',
      [
        [1, 7, NO_ID],
        [2, 4, 5],
        [2, 4, 7],
        [4, 4, NO_ID],
        [8, 6, 50],
        [16, 7, NO_ID],
        [32, 4, NO_ID],
      ],
    ],
  ])('%s', (_what, text, expected) => expect(rows(text)).toEqual(expected))

  it.each([
    '',
    'user::rw-,user:alice:r--',
    'user::rwxx',
    'mask:5:r--',
    'user:4294967295:r--',
    'constructor::rwx',
    'user::rw-,group::r--',
    'user::rw-,user::r--,group::r--,other::---',
    'user::rw-,user:5:r--,group::r--,other::---',
    'user::rw-\n'.repeat(2000),
  ])('that cannot be told is none: %j', (text) => expect(aclFromText(text)).toBeUndefined())
})

it('is an extended attribute of its entry, and the kernel’s own form of it goes first', () => {
  const xattrsOf = (records: string): string[] => {
    const seen: string[] = []
    const reader = new TarReader({
      entry: ({ xattrs }) => (seen.push(...xattrs.map(([name, value]) => `${name.toString()} ${value.length}`)), false),
      data: () => undefined,
      entryEnd: () => undefined,
    })
    reader.write(concat(paxHeader(records), file('a', 'x'), ZEROS))
    reader.end()
    return seen
  }
  const acl = pax('SCHILY.acl.access', 'user::rw-,user:1:r--,group::r--,mask::r--,other::---')
  expect(xattrsOf(acl + pax('SCHILY.acl.default', 'user::rw-,group::r--,other::---'))).toEqual([
    'system.posix_acl_access 44',
    'system.posix_acl_default 28',
  ])
  for (const records of [
    acl + pax('SCHILY.xattr.system.posix_acl_access', 'own'),
    pax('SCHILY.xattr.system.posix_acl_access', 'own') + acl,
  ])
    expect(xattrsOf(records)).toEqual(['system.posix_acl_access 3'])
  expect(
    xattrsOf(pax('SCHILY.acl.access', 'user:alice:r--') + pax('constructor', 'x') + pax('__proto__', 'x')),
  ).toEqual([])
})
