import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { digestOf, type DiffId } from '@strata/oci'
import { expect, it } from 'vitest'
import { describeDriver } from '../../testing/index.js'
import { openSnapshotter } from '../open-snapshotter.js'

describeDriver('overlay')

it('overlayfs: a stack that the kernel cannot mount is refused before anything of it is made', async () => {
  const folder = mkdtempSync('/var/tmp/strata-drivers-')
  const snapshots = await openSnapshotter(folder, { driver: 'overlay', variant: 'overlay' })
  try {
    const layers = Array.from({ length: 501 }, (_, n) => ({ diffId: digestOf(`${n}`) as DiffId, tar: '', index: '' }))
    await expect(snapshots.assemble(layers)).rejects.toMatchObject({ code: 'limit_exceeded' })
    expect(readdirSync(join(folder, 'roots'))).toEqual([])
  } finally {
    await snapshots.close()
    rmSync(folder, { recursive: true })
  }
})
