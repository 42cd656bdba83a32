import { describe } from '../archive.mjs'
import { largest } from '../peaks.mjs'
import { bars } from '../plot.mjs'
import { Interrupted } from '../processes.mjs'
import { median, spread, table } from '../report.mjs'
import { oneRound } from '../round.mjs'
import { Containerd } from '../sides/containerd.mjs'
import { Docker } from '../sides/docker.mjs'
import { Minio } from '../sides/minio.mjs'
import { Podman } from '../sides/podman.mjs'
import { Strata, StrataWay } from '../sides/strata.mjs'
import { Tar } from '../sides/tar.mjs'
import { Umoci } from '../sides/umoci.mjs'

const OTHERS = { docker: Docker, podman: Podman, containerd: Containerd, umoci: Umoci, tar: Tar }
export const LOAD_PEERS = Object.keys(OTHERS)
export const WAYS = ['curl', 'path', 'pipe', 'minio']

/** What a load may take at most, as a part of the fastest peer's time. */
const BARS = { curl: 8, path: 15 }

/**
 * Rounds of every side, one after another. Each begins with nothing of the image there and the file
 * in the page cache, and ends when the image's root is mounted and a file of each layer was read;
 * then, timed from the same start, all of it is forced to the disk. The first round of each warms
 * up and is left out.
 */
export async function benchLoad({ workspace, file, rounds = 5, peers = LOAD_PEERS, ways = WAYS }) {
  const archive = await describe(file)
  const { sides, absent } = await startSides(workspace, file, peers, ways)
  const rows = new Map(sides.map((side) => [side, []]))
  for (let round = 0; round <= rounds; round++) {
    for (const side of [...sides]) {
      let result
      try {
        result = await oneRound(side, file, archive, workspace.folder)
      } catch (error) {
        // A side that fails is told and left out from here on: the others' rounds are not lost with
        // it.
        if (error instanceof Interrupted) throw error
        process.stderr.write(`${side.name}: ${error.message}\n`)
        absent.push(`${side.name} (failed in round ${round}: ${error.message.split('\n')[0].slice(0, 200)})`)
        sides.splice(sides.indexOf(side), 1)
        rows.delete(side)
        continue
      }
      process.stderr.write(`${round} ${side.name}: ${JSON.stringify(result)}\n`)
      if (round > 0) rows.get(side).push(result)
    }
  }
  return result(archive, rows, absent, rounds)
}

/** Who cannot take part is named, with the reason; the others go on. */
async function startSides(workspace, file, peers, ways) {
  const [sides, absent] = [[], []]
  const attempt = async (name, start) => {
    try {
      sides.push(...(await start()))
    } catch (error) {
      if (error instanceof Interrupted) throw error
      process.stderr.write(`${name}: ${error.message}\n`)
      absent.push(`${name} (${error.message.split('\n')[0].slice(0, 200)})`)
    }
  }
  for (const [name, Side] of Object.entries(OTHERS)) {
    await attempt(name, async () => {
      const reason = peers.includes(name) ? Side.absent() : 'left out by --peers'
      if (reason !== undefined) throw new Error(reason)
      return [await Side.start(workspace, file)]
    })
  }
  if (ways.some((way) => way !== 'minio')) {
    const strata = await Strata.start(workspace)
    if (ways.includes('curl')) sides.push(new StrataWay(strata, 'curl', 'Strata, HTTP (curl)'))
    if (ways.includes('path')) sides.push(new StrataWay(strata, 'path', 'Strata, by path', '`strata load FILE`'))
    if (ways.includes('pipe')) sides.push(new StrataWay(strata, 'pipe', 'Strata, pipe', '`cat FILE | strata load`'))
  }
  if (ways.includes('minio')) {
    await attempt('Strata on MinIO', async () => {
      if (Minio.absent()) throw new Error(Minio.absent())
      return [
        new StrataWay(
          await Strata.start(workspace, { onMinio: true }),
          'curl',
          'Strata on MinIO (curl)',
          'blobs in a MinIO on the same disk',
        ),
      ]
    })
  }
  return { sides, absent }
}

function result(archive, rows, absent, rounds) {
  const measured = [...rows].map(([side, times]) => ({
    side,
    of: (field) => times.map((time) => time[field]),
    peaks: largest(times.map(({ peaks }) => peaks)),
  }))
  const fastest = (field) => {
    const peers = measured.filter(({ side }) => side.isPeer)
    return peers.length === 3
      ? peers.reduce((best, peer) => (median(peer.of(field)) < median(best.of(field)) ? peer : best))
      : undefined
  }
  const ratio = (row, field) => {
    const best = fastest(field)
    if (!best) return 'not comparable'
    const quotient = median(best.of(field)) / median(row.of(field))
    return row === best ? '1' : quotient >= 1 ? `1/${quotient.toFixed(1)}` : `${(1 / quotient).toFixed(1)}`
  }
  const head = [
    '',
    'to mounted, s: median (least–most)',
    'of the fastest',
    'with a closing sync, s',
    'of the fastest',
    'peak memory of each process, MiB',
  ]
  const lines = measured.map((row) => [
    row.side.name,
    spread(row.of('mounted'), 2),
    ratio(row, 'mounted'),
    spread(row.of('synced'), 2),
    ratio(row, 'synced'),
    row.peaks,
  ])
  const best = fastest('mounted')
  let isFailed = false
  const verdicts = Object.entries(BARS).flatMap(([way, bar]) => {
    const ours = measured.find(({ side }) => side.way === way && !side.strata?.minio)
    if (!ours || !best) return []
    const quotient = median(best.of('mounted')) / median(ours.of('mounted'))
    isFailed ||= quotient < bar
    return [
      `- ${ours.side.name}: 1/${quotient.toFixed(1)} of ${best.side.name}; the bar is 1/${bar}: **${quotient >= bar ? 'kept' : 'missed'}**`,
    ]
  })
  const notes = measured.filter(({ side }) => side.note).map(({ side }) => `${side.name}: ${side.note}.`)
  const text = [
    `${(archive.size / 1e9).toFixed(2)} GB, ${archive.entries} entries, ${archive.probes.length} layers; ${rounds} rounds after a first one. ${[...new Set(measured.map(({ side }) => side.version))].join('; ')}.`,
    '',
    table(head, lines),
    '',
    ...(best
      ? [`The fastest peer is ${best.side.name}.`, '', ...verdicts]
      : [`**Not comparable**: the fastest of docker, podman and containerd is only known with all three.`]),
    ...(absent.length > 0 ? ['', `Absent: ${absent.join('; ')}.`] : []),
    ...(notes.length > 0 ? ['', notes.join(' ')] : []),
  ].join('\n')
  const title = `A ${(archive.size / 1e9).toFixed(2)} GB archive to a mounted root`
  return {
    text,
    isFailed,
    plot: {
      title,
      svg: bars(
        `${title}, seconds: median, least and most`,
        's',
        measured.map(({ side, of }) => ({
          label: side.name,
          value: median(of('mounted')),
          least: Math.min(...of('mounted')),
          most: Math.max(...of('mounted')),
          isOurs: side.isOurs,
        })),
      ),
    },
  }
}
