import { describe, expect, it } from 'vitest'
import { resolveUser } from './users.js'

const PASSWD =
  '# a comment\nroot:x:0:0:root:/root:/bin/sh\n\nweb:x:1000:1001::/home/web:\n42:x:0:0::/:/bin/sh\nbad:x:4294967296:0::/:\nworse:x:-1:0::/:\nnohome:x:5:5::relative:\nshort:x\n'
const GROUP = 'root:x:0:\nweb:x:1001:\nstaff:x:50:other,web\nbig:x:2147483648:\n'
const resolve = (text: string) => resolveUser(text, PASSWD, GROUP)

describe('a user', () => {
  it.each([
    ['', { uid: 0, gid: 0, additionalGids: [0], home: '/root' }],
    ['root', { uid: 0, gid: 0, additionalGids: [0], home: '/root' }],
    ['web', { uid: 1000, gid: 1001, additionalGids: [1001, 50], home: '/home/web' }],
    ['1000', { uid: 1000, gid: 1001, additionalGids: [1001, 50], home: '/home/web' }],
    ['001000', { uid: 1000, gid: 1001, additionalGids: [1001, 50], home: '/home/web' }],
    ['web:staff', { uid: 1000, gid: 50, additionalGids: [50], home: '/home/web' }],
    ['web:7', { uid: 1000, gid: 7, additionalGids: [7], home: '/home/web' }],
    ['7:8', { uid: 7, gid: 8, additionalGids: [8], home: '/' }],
    ['7', { uid: 7, gid: 0, additionalGids: [0], home: '/' }],
    [':staff', { uid: 0, gid: 50, additionalGids: [50], home: '/root' }],
    ['nohome', { uid: 5, gid: 5, additionalGids: [5], home: '/' }],
    ['2147483647', { uid: 2147483647, gid: 0, additionalGids: [0], home: '/' }],
  ])('%j', (text, user) => {
    expect(resolve(text)).toEqual(user)
  })

  it('that is digits is never a name', () => {
    expect(resolve('42').uid).toBe(42)
  })

  it.each([
    'nobody',
    'web:nothing',
    '2147483648',
    '4294967296',
    '99999999999999999999',
    '0:2147483648',
    'root:big',
    'bad',
    'worse',
    'short',
    '-1',
    '+1',
    '0x0',
    ' root',
    '1:-1',
  ])('%j is refused', (text) => {
    expect(() => resolve(text)).toThrow(expect.objectContaining({ code: 'launch_failed' }) as Error)
  })
})
