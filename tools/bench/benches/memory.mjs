import { describe, warm } from '../archive.mjs'
import { Peaks } from '../peaks.mjs'
import { run } from '../processes.mjs'
import { median, table } from '../report.mjs'
import { Strata } from '../sides/strata.mjs'

/** The service's peak while two loads and a launch go on at once, over what it holds when it has just started. */
export async function benchMemory({ workspace, file, rounds = 3 }) {
  const { image } = await describe(file)
  const all = []
  for (let round = 0; round < rounds; round++) {
    warm(file)
    const strata = await Strata.start(workspace)
    const first = new Peaks()
    strata.watch(first)
    await strata.load('curl', file)
    const one = first.end().strata
    const peaks = new Peaks()
    strata.watch(peaks)
    await Promise.all([strata.loadCommand('curl', file), strata.loadCommand('curl', file), strata.runCommand(image, ['true'])].map((command) => run(...command)))
    all.push({ idle: strata.idle, one, two: peaks.end().strata })
    await strata.stop()
  }
  const of = (field) => median(all.map((row) => row[field])).toFixed(0)
  return { text: table(['idle, MiB', 'peak of one load', 'peak of two loads and a launch at once'], [[of('idle'), of('one'), of('two')]]) }
}
