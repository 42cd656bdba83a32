import type { ProbeResult } from '@strata/snapshots'
import { expect, it } from 'vitest'
import { driverReason } from './driver-reason.js'

const WORKED = 'it worked'
const file: ProbeResult = {
  driver: 'erofs',
  variant: 'file',
  title: 'erofs on files',
  ok: false,
  reason: 'ENOTBLK',
}
const loop: ProbeResult = { ...file, variant: 'loop', title: 'erofs on loop devices', reason: 'no loop device' }
const overlay: ProbeResult = { driver: 'overlay', variant: 'overlay', title: 'overlay', ok: true, reason: WORKED }
const works = (probe: ProbeResult): ProbeResult => ({ ...probe, ok: true, reason: WORKED })

it('the best, without more', () => {
  const chosen = works(file)
  expect(driverReason({}, { chosen, probes: [chosen, works(loop), overlay] })).toBe('erofs on files: it worked')
})

it('the next best, with what stood in the way of the better ones', () => {
  expect(driverReason({}, { chosen: overlay, probes: [file, loop, overlay] })).toBe(
    'overlay: it worked; erofs on files does not work here: ENOTBLK; erofs on loop devices does not work here: no loop device',
  )
})

it('what was asked for, by its name', () => {
  const probes = [works(file), works(loop), overlay]
  expect(driverReason({ driver: 'overlay' }, { chosen: overlay, probes })).toBe(
    'overlay: it worked; asked for by STRATA_SNAPSHOTTER=overlay',
  )
  expect(driverReason({ variants: { erofs: 'loop' } }, { chosen: probes[1]!, probes })).toBe(
    'erofs on loop devices: it worked; asked for by STRATA_EROFS=loop',
  )
})
