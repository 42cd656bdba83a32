import { rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { describe } from '../archive.mjs'
import { largest, Peaks } from '../peaks.mjs'
import { run } from '../processes.mjs'
import { median, spread, table } from '../report.mjs'
import { seconds, touchMemory } from '../round.mjs'
import { Docker } from '../sides/docker.mjs'
import { Podman } from '../sides/podman.mjs'
import { Strata } from '../sides/strata.mjs'

/** How many times faster than docker. */
const BAR = 2

/**
 * `save -o FILE IMAGE`, from the start of the command to its exit, in turns; the first round of
 * each warms up. What was loaded is the same archive; the file lies on the same disk and goes after
 * each round.
 */
export async function benchSave({ workspace, file, rounds = 5 }) {
  const archive = await describe(file)
  const sides = []
  for (const Side of [Docker, Podman])
    if (Side.absent() === undefined) sides.push({ side: await Side.start(workspace), times: [], peaks: [] })
  sides.push({ side: await Strata.start(workspace), times: [], peaks: [] })
  for (const { side } of sides) await (side instanceof Strata ? side.load('curl', file) : side.load(file))
  const target = join(workspace.folder, 'saved.tar')
  for (let round = 0; round <= rounds; round++) {
    for (const entry of sides) {
      touchMemory(workspace.folder, archive.size)
      await run('sync', ['-f', workspace.folder])
      const watched = new Peaks()
      entry.side.watch(watched)
      const [program, args, options] = entry.side.saveCommand(target, archive.image)
      const before = performance.now()
      await run(program, args, { ...options, peaks: watched })
      const time = seconds(before)
      const peaks = watched.end()
      entry.bytes = statSync(target).size
      rmSync(target)
      process.stderr.write(`${round} ${entry.side.name ?? 'strata'}: ${time}\n`)
      if (round > 0) (entry.times.push(time), entry.peaks.push(peaks))
    }
  }
  return result(sides, rounds)
}

function result(sides, rounds) {
  const docker = sides.find(({ side }) => side instanceof Docker)
  const factor = (times) => (docker ? median(docker.times) / median(times) : undefined)
  const rows = sides.map(({ side, times, bytes, peaks }) => [
    side.name ?? 'strata',
    spread(times, 2),
    (bytes / 1e6 / median(times)).toFixed(0),
    factor(times)?.toFixed(1) ?? 'not comparable',
    largest(peaks),
  ])
  const ours = factor(sides.at(-1).times)
  const text = [
    `\`save -o FILE IMAGE\`, ${rounds} rounds after a first one. ${sides.map(({ side }) => side.version).join('; ')}.`,
    '',
    table(['', 's: median (least–most)', 'MB/s', 'times as fast as docker', 'peak memory of each process, MiB'], rows),
    '',
    ours === undefined
      ? '**Not comparable**: docker is not installed.'
      : `Strata is ${ours.toFixed(1)} times as fast as docker; the bar is ${BAR}: **${ours >= BAR ? 'kept' : 'missed'}**`,
  ].join('\n')
  return { text, isFailed: ours !== undefined && ours < BAR }
}
