import { readFileSync } from 'node:fs'
import { Readable } from 'node:stream'
import { busyboxTree, makeArchive, manyLayers } from '@strata/archive/testing'
import type { Problem } from '@strata/api'
import { mountTable } from '@strata/linux'
import { IMAGE_LIMITS } from '@strata/oci'
import { DRIVER_NAMES } from '@strata/snapshots'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { layerOf, loadBusybox } from './testing/busybox-image.js'
import { StrataUnderTest } from './testing/strata.js'

const MOST = IMAGE_LIMITS.layers.most
/**
 * Programs in Go read mountinfo by lines, and fail at a line of 64 KiB (bufio.MaxScanTokenSize):
 * runc starts nothing then, of no engine.
 */
const LONGEST_LINE = 64 * 1024

/**
 * How many layers each driver gets. Those that mount them get as many as there may be: how many an
 * image has shows in the kernel's tables. vfs copies what is below for each, so fewer must do.
 */
const KINDS = DRIVER_NAMES.map((driver) => [driver, driver === 'vfs' ? 127 : MOST] as const)
describe.each(KINDS)('images of many layers, %s', (driver, count) => {
  let strata: StrataUnderTest
  let layers: Buffer[]
  beforeAll(async () => {
    strata = await StrataUnderTest.start({ environment: { STRATA_SNAPSHOTTER: driver } })
    await loadBusybox(strata, 't/small')
    layers = await manyLayers(count, busyboxTree())
  })
  afterAll(() => strata.dispose())

  const archiveOf = (name: string, of: readonly Buffer[]): Promise<Buffer> =>
    makeArchive({ names: [name], layers: of, config: { Env: ['PATH=/bin'] } })
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

  it(`one of ${count} runs, and others run beside it`, async () => {
    expect((await strata.request('GET', '/v1/info')).json()).toMatchObject({ nodes: [{ driver }] })
    await strata.load(Readable.from([await archiveOf('t/many', layers)]))
    expect(await run('t/many', 'sh', '-c', 'ls -d /layer-* | wc -l; cat /layer-1 /top')).toEqual({
      code: 0,
      stdout: `${count - 1}\n1\n${count - 1}\n`,
      stderr: '',
    })
    expect(longestLine()).toBeLessThan(LONGEST_LINE)
    expect(await run('t/small', 'echo', 'works')).toEqual({ code: 0, stdout: 'works\n', stderr: '' })
  }, 300_000)

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

it('an image of more layers than there may be is refused when it is loaded', async () => {
  const strata = await StrataUnderTest.start()
  try {
    const archive = await makeArchive({ names: ['t/more'], layers: await manyLayers(MOST + 1), config: {} })
    const answer = await strata.request('POST', '/v1/images', Readable.from([archive]))
    expect(answer.json<Problem>()).toMatchObject({
      code: 'limit_exceeded',
      detail: expect.stringContaining(`has ${MOST + 1} layers; the limit is ${MOST}`) as string,
    })
    expect(await strata.images()).toEqual([])
  } finally {
    await strata.dispose()
  }
})
