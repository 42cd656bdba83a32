import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { makePrivateMount, MNT_DETACH, mount, mountAt, umount } from '@strata/linux'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { Bookkeeping } from '../bookkeeping/bookkeeping.js'
import { createSnapshotter } from './create-snapshotter.js'
import { mountAll, unmountAll } from '../mounts/mounts.js'
import { VARIANTS } from './drivers.js'
import { probe } from './probe.js'

let folder: string
beforeEach(() => {
  folder = makePrivateMount(mkdtempSync('/var/tmp/strata-create-'))
})
afterEach(() => {
  umount(folder, MNT_DETACH)
  rmSync(folder, { recursive: true })
})

it('tells of every way whether it works here and why, and leaves nothing', async () => {
  const results = await probe(folder, () => false)
  expect(results.map(({ title }) => title)).toEqual(VARIANTS.map(({ title }) => title))
  expect(results.find(({ driver }) => driver === 'overlay')).toMatchObject({
    ok: true,
    reason: 'an image was assembled, mounted, read and written here',
  })
  expect(readdirSync(folder)).toEqual([])
})

it('takes away what a probe left that was killed, mounts upon mounts', async () => {
  const lower = join(folder, 'probe-killed', 'driver')
  mkdirSync(lower, { recursive: true })
  mount('tmpfs', lower, 'tmpfs', 0)
  mkdirSync(join(lower, 'upper'))
  mount('tmpfs', join(lower, 'upper'), 'tmpfs', 0)
  writeFileSync(join(lower, 'upper', 'file'), '')
  await probe(folder, () => false)
  expect(readdirSync(folder)).toEqual([])
})

it('a driver that works is taken although somebody is in what its test left; the next start deletes that', async () => {
  const expected = await probe(folder, () => false)
  const close = Reflect.get<Bookkeeping, 'close'>(Bookkeeping.prototype, 'close')
  const spy = vi.spyOn(Bookkeeping.prototype, 'close').mockImplementation(async function (this: Bookkeeping) {
    await close.call(this)
    for (const name of readdirSync(folder)) {
      const busy = join(folder, name, 'busy')
      if (existsSync(busy)) continue
      mkdirSync(busy)
      mount('tmpfs', busy, 'tmpfs', 0)
    }
  })
  const warnings: string[] = []
  const results = await probe(
    folder,
    () => false,
    (message) => warnings.push(message),
  ).finally(() => spy.mockRestore())
  expect(results).toEqual(expected)
  expect(warnings).toHaveLength(readdirSync(folder).length)
  expect(warnings.join()).toContain('busy')
  await probe(folder, () => true)
  expect(readdirSync(folder)).toEqual([])
})

it('a driver that works is taken although somebody reads in the root that its test has mounted', async () => {
  const expected = await probe(folder, () => false)
  const root = Reflect.get<Bookkeeping, 'root'>(Bookkeeping.prototype, 'root')
  const open: number[] = []
  const spy = vi.spyOn(Bookkeeping.prototype, 'root').mockImplementation(async function (this: Bookkeeping, chainId) {
    for (const name of readdirSync(folder)) open.push(openSync(join(folder, name, 'target', 'file'), 'r'))
    return await root.call(this, chainId)
  })
  const warnings: string[] = []
  try {
    expect(
      await probe(
        folder,
        () => false,
        (message) => warnings.push(message),
      ),
    ).toEqual(expected)
    expect(open.length).toBeGreaterThan(0)
  } finally {
    spy.mockRestore()
    for (const fd of open) closeSync(fd)
  }
  expect([readdirSync(folder), warnings]).toEqual([[], []])
})

it('serves although what a dead process left cannot be deleted now, says so, and deletes it later', async () => {
  await (await createSnapshotter({ folder })).snapshotter.close()
  // Somebody's mount in it: the folder is busy.
  const left = join(folder, 'tmp', 'left')
  mkdirSync(join(left, 'busy'), { recursive: true })
  mount('tmpfs', join(left, 'busy'), 'tmpfs', 0)
  const warnings: string[] = []
  const warn = (message: string): void => void warnings.push(message)
  const { snapshotter } = await createSnapshotter({ folder, warn })
  await snapshotter.close()
  expect(warnings).toEqual([expect.stringContaining(left)])
  umount(join(left, 'busy'), 0)
  await (await createSnapshotter({ folder, warn })).snapshotter.close()
  expect([existsSync(left), warnings.length]).toEqual([false, 1])
})

it('takes the first that works, or just the one asked for, and probes none that is worse', async () => {
  const { snapshotter, chosen, probes } = await createSnapshotter({ folder })
  expect(probes.map(({ title }) => title)).toEqual(VARIANTS.slice(0, probes.length).map(({ title }) => title))
  expect(probes.map(({ ok }) => ok)).toEqual(probes.map((_, at) => at === probes.length - 1))
  expect(chosen).toBe(probes.at(-1))
  expect(snapshotter.name).toBe(chosen.driver)
  await snapshotter.close()
  const asked = await createSnapshotter({ folder: join(folder, 'other'), driver: 'overlay' })
  expect(asked.snapshotter.name).toBe('overlay')
  expect(asked.probes.at(-1)).toBe(asked.chosen)
  await asked.snapshotter.close()
  const loop = await createSnapshotter({ folder: join(folder, 'loop'), driver: 'erofs', variants: { erofs: 'loop' } })
  expect(loop.chosen.title).toBe('erofs on loop devices')
  await loop.snapshotter.close()
})

it('refuses with the reason what does not work in this very folder', async () => {
  // On overlayfs an upper folder and a file-backed EROFS are both impossible: as in a container
  // without a volume.
  const [lower, upper, work, merged] = ['lower', 'upper', 'work', 'merged'].map((name) => join(folder, name))
  for (const path of [lower!, upper!, work!]) mkdirSync(path)
  mountAll(
    [
      {
        type: 'overlay',
        source: 'overlay',
        options: [`lowerdir+=${lower!}`, `upperdir=${upper!}`, `workdir=${work!}`],
      },
    ],
    merged!,
  )
  try {
    await expect(
      createSnapshotter({ folder: join(merged!, 'node'), driver: 'erofs', variants: { erofs: 'file' } }),
    ).rejects.toMatchObject({
      code: 'driver_unavailable',
      message: expect.stringMatching(/erofs on files: .*ENOTBLK/) as unknown,
    })
    await expect(createSnapshotter({ folder: join(merged!, 'node'), driver: 'overlay' })).rejects.toMatchObject({
      code: 'driver_unavailable',
    })
    expect(readdirSync(join(merged!, 'node'))).toEqual([])
  } finally {
    await unmountAll(merged!)
  }
})

it('mounts overlays whose paths hold what separates options', async () => {
  const odd = join(folder, 'a:b,c\\d e')
  const target = join(folder, 'target')
  for (const name of ['lower', 'upper', 'work']) mkdirSync(join(odd, name), { recursive: true })
  writeFileSync(join(odd, 'lower', 'file'), '')
  mountAll(
    [
      {
        type: 'overlay',
        source: 'overlay',
        options: [`lowerdir+=${odd}/lower`, `upperdir=${odd}/upper`, `workdir=${odd}/work`],
      },
    ],
    target,
  )
  expect(existsSync(join(target, 'file'))).toBe(true)
  await unmountAll(target)
  expect(mountAt(target)).toBeUndefined()
  await unmountAll(join(folder, 'not-there'))
})
