import { describe, expect, it } from 'vitest'
import { ArchiveFuzzer } from './archive-target.js'
import { Random } from './random.js'
import { fuzzTar } from './tar-target.js'

/** Other cases each day, the same all day; a failure names its seed: `npm run fuzz -- --target tar --seed N`. */
const FIRST = Math.floor(Date.now() / 86_400_000) * 1_000_003
const isLong = process.env['STRATA_TEST_LONG'] === '1'
const HOW_MANY = { tar: isLong ? 30_000 : 1_500, archive: isLong ? 2_000 : 120 }
const LIMIT = 15 * 60_000

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

  it('tars end in entries or one error, the same however they come, and in a sound index', () => each(HOW_MANY.tar, fuzzTar), LIMIT)

  it('archives end in images or one error, the same however they come, and leave nothing', async () => {
    await using archives = await ArchiveFuzzer.open()
    await each(HOW_MANY.archive, (random) => archives.run(random))
  }, LIMIT)
})
