import { parseArgs } from 'node:util'
import { ArchiveFuzzer } from './archive-target.js'
import { Random } from './random.js'
import { fuzzTar } from './tar-target.js'

/**
 * `npm run fuzz -- [--minutes 60] [--seed N] [--target tar|archive]`: with a seed that one case
 * alone, as a failure names it.
 */
const { values } = parseArgs({
  options: { minutes: { type: 'string', default: '60' }, seed: { type: 'string' }, target: { type: 'string' } },
})
const targets = (values.target === undefined ? ['tar', 'archive'] : [values.target]).filter(
  (target) => target === 'tar' || target === 'archive',
)
const minutes = Number(values.minutes)
if (targets.length === 0 || !(minutes > 0) || (values.seed !== undefined && !/^\d+$/.test(values.seed))) {
  process.stderr.write('usage: npm run fuzz -- [--minutes N] [--seed N] [--target tar|archive]\n')
  process.exit(2)
}

await using archives = await ArchiveFuzzer.open()
for (const target of targets) {
  const one = async (seed: number): Promise<void> =>
    target === 'tar' ? fuzzTar(new Random(seed)) : archives.run(new Random(seed))
  const first = values.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(values.seed)
  const end = performance.now() + (minutes * 60_000) / targets.length
  let cases = 0
  do {
    try {
      await one(first + cases)
    } catch (error) {
      process.stderr.write(
        `FAILED: npm run fuzz -- --target ${target} --seed ${first + cases}\n${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`,
      )
      process.exitCode = 1
    }
    cases++
  } while (values.seed === undefined && process.exitCode === undefined && performance.now() < end)
  process.stdout.write(
    `${target}: ${cases} cases from seed ${first}, peak memory ${Math.round(process.resourceUsage().maxRSS / 1024)} MiB\n`,
  )
}
