import { describe } from '../archive.mjs'
import { largest, Peaks } from '../peaks.mjs'
import { bars } from '../plot.mjs'
import { run } from '../processes.mjs'
import { median, table } from '../report.mjs'
import { Containerd } from '../sides/containerd.mjs'
import { Docker } from '../sides/docker.mjs'
import { Podman } from '../sides/podman.mjs'
import { Strata } from '../sides/strata.mjs'

const WARM_UP = 5
/** Of these only the memory is looked at: the looking takes time. */
const PEAK_ROUNDS = 5
const OTHERS = { docker: Docker, podman: Podman, containerd: Containerd }
export const RUN_PEERS = Object.keys(OTHERS)

/**
 * `run --rm IMAGE true`, from the start of the command to its exit, in turns. The image is there;
 * nobody has a network to make.
 */
export async function benchRun({ workspace, file, rounds = 20, peers = RUN_PEERS }) {
  const { image } = await describe(file)
  const [sides, absent] = [new Map(), []]
  for (const [name, Side] of Object.entries(OTHERS)) {
    const reason = peers.includes(name) ? Side.absent() : 'left out by --peers'
    if (reason === undefined) sides.set(await Side.start(workspace), [])
    else absent.push(`${name} (${reason})`)
  }
  const strata = await Strata.start(workspace)
  for (const side of sides.keys()) await side.load(file)
  await strata.load('curl', file)
  sides.set(strata, [])
  for (let round = 0; round < WARM_UP + rounds; round++) {
    for (const [side, times] of sides) {
      const before = performance.now()
      await run(...side.runCommand(image, ['true']))
      if (round >= WARM_UP) times.push(performance.now() - before)
    }
  }
  const peaks = new Map()
  for (const side of sides.keys()) peaks.set(side, await peaksOf(side, image))
  return result(sides, peaks, absent, rounds)
}

async function peaksOf(side, image) {
  const rounds = []
  for (let round = 0; round < PEAK_ROUNDS; round++) {
    const peaks = new Peaks()
    side.watch(peaks)
    const [program, args, options] = side.runCommand(image, ['true'])
    await run(program, args, { ...options, peaks })
    rounds.push(peaks.end())
  }
  return largest(rounds)
}

function result(sides, peaks, absent, rounds) {
  const docker = [...sides].find(([side]) => side.name === 'docker')?.[1]
  const rows = [...sides].map(([side, times]) => {
    const sorted = [...times].sort((a, b) => a - b)
    const ratio =
      docker === undefined ? 'not comparable' : times === docker ? '1' : (median(times) / median(docker)).toFixed(2)
    return {
      side,
      sorted,
      cells: [
        side.name ?? 'strata',
        median(times).toFixed(0),
        sorted[0].toFixed(0),
        sorted[Math.ceil(sorted.length * 0.95) - 1].toFixed(0),
        ratio,
        peaks.get(side),
      ],
    }
  })
  const title = '`run --rm IMAGE true`, the whole command'
  const text = [
    `${title}; ${rounds} rounds after ${WARM_UP}. ${[...sides.keys()].map(({ version }) => version).join('; ')}.`,
    '',
    table(
      ['', 'median, ms', 'least', 'p95', 'of docker', 'peak memory of each process, MiB'],
      rows.map(({ cells }) => cells),
    ),
    ...(absent.length > 0 ? ['', `Absent: ${absent.join('; ')}.`] : []),
  ].join('\n')
  const ours = [...sides].find(([side]) => side instanceof Strata)[1]
  const svg = bars(
    'run --rm IMAGE true, milliseconds: median, least and most',
    'ms',
    rows.map(({ side, sorted }) => ({
      label: side.name ?? 'Strata',
      value: median(sorted),
      least: sorted[0],
      most: sorted.at(-1),
      isOurs: side instanceof Strata,
    })),
  )
  return {
    text,
    isFailed: docker !== undefined && median(ours) > median(docker),
    plot: { title: 'run --rm IMAGE true', svg },
  }
}
