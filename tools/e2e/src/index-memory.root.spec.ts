import { Readable } from 'node:stream'
import { gzipSync } from 'node:zlib'
import { concat, file, pax, paxHeader, ZEROS } from '@strata/archive/testing'
import type { Problem } from '@strata/api'
import { DRIVER_NAMES } from '@strata/snapshots'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { busyboxLayer } from './testing/busybox-image.js'
import { guarded } from './testing/guard.js'
import { packedImage } from './testing/packed-image.js'
import { StrataUnderTest } from './testing/strata.js'

/** The least that there may be: 12 MiB for the work, 4 MiB for uploads. */
const MIB = 16

/** A layer of symbolic links, whose index has some 4,150 bytes for each and packs to a few. */
function layer(name: string, links: number): Buffer {
  const target = name.padEnd(4_095, 'x')
  const link = (n: number): Buffer =>
    concat(paxHeader(pax('linkpath', target)), file(`${name}-${n}`, '', { type: '2' }))
  return concat(...Array.from({ length: links }, (_, n) => link(n)), ZEROS)
}
async function packed(name: string, links: readonly number[]): Promise<Buffer> {
  const layers = [await busyboxLayer(), ...links.map((count, n) => layer(`${name}${n}`, count))]
  return packedImage(
    `t/${name}`,
    layers.map((tar) => gzipSync(tar)),
    layers,
  )
}
async function plain(name: string, links: readonly number[]): Promise<Buffer> {
  return packedImage(`t/${name}`, [await busyboxLayer(), ...links.map((count, n) => layer(`${name}${n}`, count))])
}

/** Told before any driver is asked: by who makes a layer's index, and by ingest. */
const REFUSED: readonly [string, () => Promise<Buffer>, string, RegExp][] = [
  [
    'a packed layer',
    () => packed('one', [1_200]),
    '',
    /the layer \S+ needs more memory for its index; the limit is 12/,
  ],
  ['a plain layer', () => plain('one', [1_200]), '', /the layer \S+ needs more memory for its index; the limit is 12/],
  ['a stack', () => packed('many', [600, 600, 600]), '', /^the image t\/many\S* needs 1\d MiB of memory for indexes/],
  ['a stack that is not prepared', () => plain('many', [600, 600, 600]), '?prepare=false', /needs 1\d MiB of memory/],
]

describe.each(DRIVER_NAMES)('memory for indexes, %s', (driver) => {
  let strata: StrataUnderTest
  beforeAll(async () => {
    strata = await StrataUnderTest.start({
      environment: { STRATA_INDEX_MEMORY: `${MIB}`, STRATA_SNAPSHOTTER: driver, STRATA_MAX_RATIO: '1000000' },
    })
  })
  afterAll(() => strata.dispose())
  guarded(() => strata)

  const load = (archive: Buffer, query = '') => strata.request('POST', `/v1/images${query}`, Readable.from([archive]))

  it.each(driver === DRIVER_NAMES[0] ? REFUSED : [])(
    '%s that no node has room for is refused when it is loaded',
    async (_, archive, query, sentence) => {
      const { status, ...answer } = await load(await archive(), query)
      const { code, detail } = answer.json<Problem>()
      expect({ status, code, detail }).toEqual({
        status: 413,
        code: 'limit_exceeded',
        detail: expect.any(String) as string,
      })
      expect(detail).toMatch(sentence)
      expect(detail).toContain('STRATA_INDEX_MEMORY')
      expect(await strata.images()).toEqual([])
    },
  )

  it('what fits alone and not together waits for one another', async () => {
    const names = Array.from({ length: 6 }, (_, n) => `w${n}`)
    const archives = await Promise.all(names.map((name, n) => (n % 2 ? plain : packed)(name, [400, 400])))
    const answers = await Promise.all(archives.map((archive) => load(archive)))
    expect(answers.map(({ status, bytes }) => (status === 201 ? status : bytes.toString()))).toEqual(
      names.map(() => 201),
    )
    const runs = await Promise.all(names.map((name) => strata.cli(['run', '--rm', `t/${name}`, 'echo', name])))
    expect(runs.map(({ stdout, stderr }) => stdout.toString() + stderr)).toEqual(names.map((name) => `${name}\n`))
    await strata.cli(['rmi', ...names.map((name) => `t/${name}`)])
  })
})
