import { readFileSync } from 'node:fs'
import { Readable } from 'node:stream'
import { makeArchive } from '@strata/archive/testing'
import type { Problem } from '@strata/api'
import { mountTable } from '@strata/linux'
import { IMAGE_LIMITS } from '@strata/oci'
import { DRIVER_NAMES } from '@strata/snapshots'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { busyboxLayer, layerOf, loadBusybox } from './testing/busybox-image.js'
import { StrataUnderTest } from './testing/strata.js'

const MOST = IMAGE_LIMITS.layers.most
/**
 * Programs in Go read mountinfo by lines, and fail at a line of 64 KiB (bufio.MaxScanTokenSize):
 * runc starts nothing then, of no engine.
 */
const LONGEST_LINE = 64 * 1024

/** Those that mount layers: how many an image has shows in the kernel's tables. */
const drivers = DRIVER_NAMES.filter((name) => name !== 'vfs')
describe.each(drivers)('images of many layers, %s', (driver) => {
  let strata: StrataUnderTest
  let layers: Buffer[]
  beforeAll(async () => {
    strata = await StrataUnderTest.start({ environment: { STRATA_SNAPSHOTTER: driver } })
    await loadBusybox(strata, 't/small')
    layers = await Promise.all(
      Array.from({ length: MOST - 1 }, (_, n) => layerOf({ [`layers/${n}`]: { content: `${n}` } })),
    )
  })
  afterAll(() => strata.dispose())

  const run = async (image: string, ...command: string[]): Promise<object> => {
    const { code, stdout, stderr } = await strata.cli(['run', '--rm', image, ...command])
    return { code, stdout: stdout.toString(), stderr }
  }
  const longestLine = (): number =>
    Math.max(
      ...readFileSync('/proc/self/mountinfo', 'latin1')
        .split('\n')
        .map((line) => line.length),
    )

  it('one of as many as there may be runs, and others run beside it', async () => {
    await loadBusybox(strata, 't/many', layers)
    expect(await run('t/many', 'sh', '-c', 'ls /layers | wc -l; cat /layers/0')).toEqual({
      code: 0,
      stdout: `${MOST - 1}\n0`,
      stderr: '',
    })
    expect(longestLine()).toBeLessThan(LONGEST_LINE)
    expect(await run('t/small', 'echo', 'works')).toEqual({ code: 0, stdout: 'works\n', stderr: '' })
  }, 300_000)

  it('one of more is refused when it is loaded', async () => {
    const more = [await busyboxLayer(), ...layers, await layerOf({ more: { content: '' } })]
    const archive = await makeArchive({ names: ['t/more'], layers: more, config: {} })
    const answer = await strata.request('POST', '/v1/images', Readable.from([archive]))
    expect(answer.json<Problem>()).toMatchObject({
      code: 'limit_exceeded',
      detail: expect.stringContaining(`has ${MOST + 1} layers; the limit is ${MOST}`) as string,
    })
    expect((await strata.images()).flatMap(({ names }) => names).sort()).not.toContain('t/more:latest')
  })

  it('the root of a launch that fails is not left mounted', async () => {
    await loadBusybox(strata, 't/other', [await layerOf({ other: { content: driver } })])
    const mounted = (): string[] =>
      mountTable()
        .map(({ mountPoint }) => mountPoint)
        .filter((point) => point.startsWith(`${strata.node.folder}/snapshots/mounts/`))
    const before = mounted()
    expect(await run('t/other', '/no/such/command')).toMatchObject({ code: 127 })
    expect(mounted()).toEqual(before)
    expect(await run('t/other', 'cat', '/other')).toEqual({ code: 0, stdout: driver, stderr: '' })
  })
})
