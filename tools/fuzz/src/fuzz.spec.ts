import { describe, expect, it } from 'vitest'
import { ArchiveFuzzer } from './archive-target.js'
import { Random } from './random.js'
import { fuzzTar } from './tar-target.js'

/**
 * Other cases each day, the same all day; a failure names its seed: `npm run fuzz -- --target tar
 * --seed N`.
 */
const FIRST = Math.floor(Date.now() / 86_400_000) * 1_000_003
/** A number of cases, not a time: on a busy machine as many are tried. */
const TIMES = process.env['STRATA_TEST_LONG'] === '1' ? 30 : 1
const TARS = 6_000 * TIMES
const ARCHIVES = 500 * TIMES
/** So that one that hangs ends some time. */
const LIMIT = 20 * 60_000 * TIMES

async function each(count: number, one: (random: Random) => void | Promise<void>): Promise<void> {
  for (let seed = FIRST; seed < FIRST + count; seed++) {
    try {
      await one(new Random(seed))
    } catch (error) {
      throw new Error(`seed ${seed}`, { cause: error })
    }
  }
}

describe('tars and archives that no tool writes', () => {
  it('the same seed makes the same case', () => {
    expect(Array.from({ length: 3 }, () => new Random(7).number(1e9))).toEqual(Array(3).fill(new Random(7).number(1e9)))
  })

  it(
    'tars end in entries or one error, the same however they come, and in a sound index',
    () => each(TARS, fuzzTar),
    LIMIT,
  )

  it(
    'archives end in images or one error, the same however they come, and leave nothing',
    async () => {
      await using archives = await ArchiveFuzzer.open()
      await each(ARCHIVES, (random) => archives.run(random))
    },
    LIMIT,
  )
})
