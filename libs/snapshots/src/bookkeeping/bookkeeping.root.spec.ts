import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { concat, file, ZEROS } from '@strata/archive/testing'
import { makePrivateMount, MNT_DETACH, mountAt, umount } from '@strata/linux'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { driverRow, VARIANTS } from '../drivers/drivers.js'
import { openSnapshotter } from '../drivers/open-snapshotter.js'
import { mountAll, unmountAll } from '../mounts/mounts.js'
import { parseSnapshotKey } from '../snapshot.js'
import type { LayerFiles } from '../snapshotter.js'
import { leftoversOf, storeLayer } from '../testing/index.js'
import { Layout } from './layout.js'

const key = parseSnapshotKey('c')
const overlay = VARIANTS.find(({ driver }) => driver === 'overlay')!
const erofs = VARIANTS.find(({ driver }) => driver === 'erofs')!
const layout = (folder: string): Layout => new Layout(folder, driverRow('overlay').folders)

let base: string
let [folder, target] = ['', '']
let stack: LayerFiles[]
beforeEach(() => {
  base = makePrivateMount(mkdtempSync('/var/tmp/strata-bookkeeping-'))
  ;[folder, target] = [join(base, 'driver'), join(base, 'target')]
  mkdirSync(join(base, 'layers'))
  stack = [storeLayer(join(base, 'layers'), concat(file('f', 'old'), ZEROS))]
})
afterEach(async () => {
  await unmountAll(target)
  umount(base, MNT_DETACH)
  rmSync(base, { recursive: true })
})

describe('a snapshot that an earlier start made', () => {
  it('is mounted under another driver of the same form, also with a record of before there were forms', async () => {
    const before = await openSnapshotter(folder, overlay)
    const chainId = await before.assemble(stack)
    mountAll(await before.prepare(key, chainId), target)
    writeFileSync(join(target, 'f'), 'new')
    await unmountAll(target)
    // Its process died: nothing was released.
    await before.close()
    writeFileSync(layout(folder).snapshotRecord(key), JSON.stringify({ kind: 'writable', chainId }))

    const next = await openSnapshotter(folder, erofs)
    expect(await next.isAssembled(chainId)).toBe(false)
    await next.assemble(stack)
    expect(mountAt(await next.root(chainId))?.fsType).toBe('erofs')
    mountAll(await next.prepare(key, chainId), target)
    expect(readFileSync(join(target, 'f'), 'utf8')).toBe('new')
    await unmountAll(target)
    await next.remove(key)
    await next.removeRoot(chainId)
    await next.close()
  })

  it('of another form is listed and measured, is not mounted, and is removed when nothing uses it', async () => {
    const snapshots = await openSnapshotter(folder, overlay)
    const chainId = await snapshots.assemble(stack)
    await snapshots.prepare(key, chainId)
    const tree = join(layout(folder).snapshot(key), 'tree')
    mkdirSync(tree)
    writeFileSync(layout(folder).snapshotRecord(key), JSON.stringify({ kind: 'writable', chainId, form: 'other' }))
    const refusal = {
      code: 'driver_unavailable',
      message: expect.stringMatching(/the snapshot c .*\(other\), which overlay cannot mount: start/) as unknown,
    }
    await expect(snapshots.prepare(key, chainId)).rejects.toMatchObject(refusal)
    await expect(snapshots.mounts(key)).rejects.toMatchObject(refusal)
    expect(await snapshots.stat(key)).toEqual({ key, kind: 'writable', chainId })
    expect((await snapshots.usage(key)).inodes).toBeGreaterThan(1)

    mountAll([{ type: 'bind', source: tree, options: ['ro'] }], target)
    expect(mountAt(target)?.options).toContain('ro')
    await expect(snapshots.remove(key)).rejects.toMatchObject({ code: 'in_use' })
    await unmountAll(target)
    await snapshots.remove(key)
    await snapshots.removeRoot(chainId)
    await snapshots.close()
    expect(await leftoversOf(layout(folder))).toEqual([])
  })
})
