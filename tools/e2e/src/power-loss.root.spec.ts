import { createHash } from 'node:crypto'
import {
  appendFileSync,
  chmodSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { BlobStore } from '@strata/store'
import { layerOf, loadBusybox } from './testing/busybox-image.js'
import { StrataUnderTest } from './testing/strata.js'

let strata: StrataUnderTest
beforeAll(async () => {
  strata = await StrataUnderTest.start({ store: 'folder' })
})
afterAll(() => strata.dispose())

/** What was written in this boot was written in another. */
function asBeforeABoot(): void {
  for (const folder of [
    join(strata.data, 'store'),
    join(strata.node.folder, 'layers'),
    join(strata.node.folder, 'snapshots'),
  ]) {
    const mark = join(folder, 'synced')
    const [, time = ''] = readlinkSync(mark).split(' ')
    rmSync(mark)
    symlinkSync(`another-boot ${time}`, mark)
  }
}

it('an image that was not on disk when the power went is gone whole, the others run', async () => {
  const lost = await layerOf({ lost: { content: 'these bytes never reach the disk' } })
  await loadBusybox(strata, 't/keep')
  await loadBusybox(strata, 't/lost', [lost])
  for (const image of ['t/keep', 't/lost'])
    expect((await strata.cli(['run', '--rm', '--network', 'none', image, 'ls', '/bin/busybox'])).code).toBe(0)
  const store = await strata.store()
  const blobs = new BlobStore(store)
  const record = await blobs.stat(`sha256:${createHash('sha256').update(lost).digest('hex')}` as never)
  const bytes = blobs.localPath(record!)!

  await strata.stop('SIGKILL')
  asBeforeABoot()
  chmodSync(bytes, 0o600)
  writeFileSync(bytes, Buffer.alloc(statSync(bytes).size))
  await strata.startProcesses()

  expect((await strata.images()).flatMap(({ names }) => names)).toEqual(['t/keep:latest'])
  expect(strata.log).toMatch(/image t\/lost:latest is gone: blob sha256:[0-9a-f]{64} had not reached the disk/)
  expect(strata.log).not.toContain('image t/keep')
  expect(readdirSync(join(strata.node.folder, 'layers')).filter((name) => /^[0-9a-f]{64}$/.test(name))).toEqual([])
  expect(readdirSync(join(strata.node.folder, 'snapshots', 'roots'))).toEqual([])
  expect((await strata.cli(['run', '--rm', '--network', 'none', 't/keep', 'ls', '/bin/busybox'])).code).toBe(0)

  await loadBusybox(strata, 't/lost', [lost])
  const again = await strata.cli(['run', '--rm', '--network', 'none', 't/lost', 'cat', '/lost'])
  expect(again.stdout.toString()).toBe('these bytes never reach the disk')
})

it('a private Redis that cannot read what it kept starts empty, and all is as before', async () => {
  const own = await StrataUnderTest.start({ topology: 'standalone' })
  try {
    await loadBusybox(own, 't/kept')
    await own.stop()
    const kept = join(own.data, 'redis', 'appendonlydir')
    for (const name of readdirSync(kept).filter((one) => one.endsWith('.aof')))
      appendFileSync(join(kept, name), 'x'.repeat(4096))
    await own.startProcesses()
    expect(readFileSync(join(own.data, 'redis', 'redis.log'), 'utf8')).toMatch(/Bad file format.*append only file/)
    expect((await own.cli(['run', '--rm', '--network', 'none', 't/kept', 'ls', '/bin/busybox'])).code).toBe(0)
  } finally {
    await own.dispose()
  }
})
