import { closeSync, existsSync, unlinkSync } from 'node:fs'
import { join } from 'node:path'
import { flock, openOwnFile } from '@strata/linux'
import { chainIdOf, digestOf, hexOf, type DiffId } from '@strata/oci'
import { afterEach, expect, it } from 'vitest'
import { busyboxLayer, layerOf, loadBusybox } from './testing/busybox-image.js'
import { StrataUnderTest, until } from './testing/strata.js'

let strata: StrataUnderTest
afterEach(async () => {
  await strata.dispose()
})

it('images that take long to assemble for a load do not hold up a launch', async () => {
  strata = await StrataUnderTest.start({
    environment: { STRATA_LAUNCH_CONCURRENCY: '1', STRATA_ASSEMBLE_CONCURRENCY: '1' },
  })
  await loadBusybox(strata, 'ready:1')
  const own = await layerOf({ own: { content: 'x' } })
  const diffIds = [await busyboxLayer(), own].map((layer) => digestOf(layer) as DiffId)
  // Whoever assembles the image waits for this.
  const path = join(strata.node.folder, 'snapshots', 'locks', `root-${hexOf(chainIdOf(diffIds))}`)
  const lock = openOwnFile(path)
  expect(flock(lock, 'ex', { nonblock: true })).toBe(true)
  let isLoaded = false
  const loads = Promise.all(['held:1', 'held:2'].map((name) => loadBusybox(strata, name, [own]))).then(
    () => (isLoaded = true),
  )
  try {
    await until(() => existsSync(join(strata.node.folder, 'layers', hexOf(diffIds[1]!))), 'the layer is on the node')
    for (let turn = 0; turn < 2; turn++)
      expect((await strata.cli(['run', '--rm', 'ready:1', 'echo', 'hi'])).stdout.toString()).toBe('hi\n')
    expect(isLoaded).toBe(false)
  } finally {
    unlinkSync(path)
    closeSync(lock)
  }
  await loads
  expect((await strata.cli(['run', '--rm', 'held:1', 'cat', '/own'])).stdout.toString()).toBe('x')
})
