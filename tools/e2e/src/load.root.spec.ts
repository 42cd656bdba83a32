import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { fixtureListing, openFixture } from '@strata/archive/testing'
import { StrataUnderTest } from './testing/strata.js'

let strata: StrataUnderTest
beforeAll(async () => {
  strata = await StrataUnderTest.start()
})
afterAll(async () => {
  await strata.dispose()
})

describe('a first look', () => {
  it('loads an archive, shows its layers, runs a container', async () => {
    const { images } = await strata.load(openFixture('docker20-odd.tar'))
    expect(images).toMatchObject([{ names: ['fx/odd:3'], layers: 3 }])
    const run = await strata.cli(['run', '--rm', '--entrypoint', '/bin/busybox', 'fx/odd:3', 'echo', 'hello'])
    expect(run).toMatchObject({ code: 0, stdout: Buffer.from('hello\n'), stderr: '' })
    expect(readFileSync('/proc/mounts', 'utf8')).toContain(strata.data)
    expect((await fixtureListing()).length).toBeGreaterThan(100)
  })
})
