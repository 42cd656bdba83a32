import { parseMountInfo } from '@strata/linux'
import { expect, it } from 'vitest'
import { parseSnapshotKey } from '../snapshot.js'
import { lowerFolders } from './users.js'

const lowerOf = (options: string): string[] =>
  lowerFolders(parseMountInfo(`1 0 0:1 / /m rw - overlay overlay ${options}\n`)[0]!)

it('reads the lower folders of an overlay as either way of mounting shows them', () => {
  expect(lowerOf('ro,lowerdir+=/a,lowerdir+=/b\\072c,index=off')).toEqual(['/a', '/b:c'])
  expect(lowerOf('rw,lowerdir=/a:/b\\134:c,upperdir=/u')).toEqual(['/a', '/b:c'])
})

it.each(['', '.', '..', 'a/b', '-a', 'a'.repeat(201), 'a\n', 'ü'])('refuses %j as a key', (text) => {
  expect(() => parseSnapshotKey(text)).toThrow(/no key/)
})
