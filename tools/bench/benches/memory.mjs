import { describe, warm } from '../archive.mjs'
import { Peaks } from '../peaks.mjs'
import { run } from '../processes.mjs'
import { median, table } from '../report.mjs'
import { Minio } from '../sides/minio.mjs'
import { Strata } from '../sides/strata.mjs'

/** What a service may take at most, MiB. */
const EACH = 300
const OVER_IDLE = 150

/**
 * The services' peaks while two loads and a launch go on at once: all in one process, over what it
 * holds when it has just started, and each in its own.
 */
export async function benchMemory({ workspace, file, rounds = 3, onMinio = false }) {
  if (onMinio && Minio.absent()) throw new Error(Minio.absent())
  const { image } = await describe(file)
  const [one, each] = [[], []]
  for (let round = 0; round < rounds; round++) {
    one.push(await oneRound(workspace, file, image, { isSeparate: false, onMinio }))
    each.push(await oneRound(workspace, file, image, { isSeparate: true, onMinio }))
  }
  const isOver = (row) => (row.name === 'all in one' ? row.two - row.idle > OVER_IDLE : row.two > EACH)
  const rows = [...rowsOf(one), ...rowsOf(each)].map((row) =>
    row.name === 'strata' ? { ...row, name: 'all in one' } : row,
  )
  const cells = rows.map((row) => [
    row.name,
    row.idle.toFixed(0),
    row.one.toFixed(0),
    row.two.toFixed(0),
    row.name === 'all in one' ? `idle + ${OVER_IDLE} = ${(row.idle + OVER_IDLE).toFixed(0)}` : `${EACH}`,
    isOver(row) ? '**missed**' : 'kept',
  ])
  const text = [
    `MiB, medians of ${rounds} rounds, each with services that have just started; blobs in ${onMinio ? 'MinIO' : 'a folder'}.`,
    '',
    table(['process', 'idle', 'peak of a first load', 'peak of two loads and a launch at once', 'bar', ''], cells),
  ].join('\n')
  return { text, isFailed: rows.some(isOver) }
}

async function oneRound(workspace, file, image, options) {
  warm(file)
  const strata = await Strata.start(workspace, options)
  const first = watched(strata)
  await strata.load('curl', file)
  const one = first.end()
  const second = watched(strata)
  await Promise.all(
    [strata.loadCommand('curl', file), strata.loadCommand('curl', file), strata.runCommand(image, ['true'])].map(
      (command) => run(...command),
    ),
  )
  const two = second.end()
  process.stderr.write(`${JSON.stringify({ idle: strata.idle, one, two })}\n`)
  await strata.stop()
  return Object.entries(strata.idle).map(([name, idle]) => ({ name, idle, one: one[name], two: two[name] }))
}

function watched(strata) {
  const peaks = new Peaks()
  strata.watch(peaks)
  return peaks
}

function rowsOf(rounds) {
  return rounds[0].map(({ name }, at) => {
    const of = (field) => median(rounds.map((rows) => rows[at][field]))
    return { name, idle: of('idle'), one: of('one'), two: of('two') }
  })
}
