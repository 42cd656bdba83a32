import { expect, it } from 'vitest'
import { mountAt, parseMountInfo } from './mount-table.js'
import { parseStartTime } from '../processes/process-info.js'

const TEXT = `23 28 0:22 / /proc rw,relatime shared:5 master:1 - proc proc rw
90 28 0:51 /a\\040b /mnt/with\\040space\\134x ro,nosuid - overlay over\\011lay rw,lowerdir+=/l\\054\\0401,upperdir=/u
91 28 0:51 / /mnt/with\\040space\\134x rw - tmpfs tmpfs rw
`

it('takes a line of mountinfo apart, whatever the number of optional fields', () => {
  expect(parseMountInfo(TEXT)[0]).toEqual({
    id: 23,
    parent: 28,
    dev: '0:22',
    root: '/',
    mountPoint: '/proc',
    options: ['rw', 'relatime'],
    propagation: ['shared:5', 'master:1'],
    fsType: 'proc',
    source: 'proc',
    superOptions: ['rw'],
  })
})

it('decodes octal escapes in every path, after the options were split', () => {
  const entry = parseMountInfo(TEXT)[1]
  expect(entry).toMatchObject({
    root: '/a b',
    mountPoint: '/mnt/with space\\x',
    source: 'over\tlay',
    propagation: [],
    superOptions: ['rw', 'lowerdir+=/l, 1', 'upperdir=/u'],
  })
})

it('finds the visible one of several mounts on one point', () => {
  expect(mountAt('/mnt/with space\\x', parseMountInfo(TEXT))?.id).toBe(91)
  expect(mountAt('/mnt', parseMountInfo(TEXT))).toBeUndefined()
})

it('reads the start time behind a process name with spaces and parentheses', () => {
  const fields = Array.from({ length: 49 }, (_, at) => String(at + 4)).join(' ')
  expect(parseStartTime(`77 (a) b (c)) S ${fields}`)).toBe(22)
})
