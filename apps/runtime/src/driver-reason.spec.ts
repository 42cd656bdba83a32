import type { ProbeResult } from '@strata/snapshots'
import { expect, it } from 'vitest'
import { driverReason } from './driver-reason.js'

const WORKED = 'it worked'
const file = (ok: boolean): ProbeResult => ({ driver: 'erofs', erofs: 'file', ok, reason: ok ? WORKED : 'ENOTBLK' })
const loop = (ok: boolean): ProbeResult => ({
  driver: 'erofs',
  erofs: 'loop',
  ok,
  reason: ok ? WORKED : 'no loop device',
})
const overlay: ProbeResult = { driver: 'overlay', ok: true, reason: WORKED }

it('the best, without more', () => {
  expect(driverReason({}, [file(true), loop(true), overlay])).toBe('erofs from files: it worked')
})

it('the next best, with what stood in the way of the better ones', () => {
  expect(driverReason({}, [file(false), loop(false), overlay])).toBe(
    'overlay: it worked; erofs from files does not work here: ENOTBLK; erofs from loop devices does not work here: no loop device',
  )
})

it('what was asked for, by its name', () => {
  expect(driverReason({ driver: 'overlay' }, [file(true), loop(true), overlay])).toBe(
    'overlay: it worked; asked for by STRATA_SNAPSHOTTER=overlay',
  )
  expect(driverReason({ erofs: 'loop' }, [file(true), loop(true), overlay])).toBe(
    'erofs from loop devices: it worked; asked for by STRATA_EROFS=loop',
  )
})
