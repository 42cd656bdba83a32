import { statSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { describe } from '../archive.mjs'
import { largest } from '../peaks.mjs'
import { ask, run } from '../processes.mjs'
import { median, spread, table } from '../report.mjs'
import { oneRound, seconds } from '../round.mjs'
import { Strata, StrataWay } from '../sides/strata.mjs'
import { Umoci } from '../sides/umoci.mjs'

/** What a load may take at most, as a part of umoci's time. */
const BAR = 6

/**
 * The image as registries give it, an OCI layout with packed layers, to a mounted root: rounds as
 * `load`'s, of umoci, which unpacks the layout, and of Strata, which gets the same layout in a tar
 * by curl. Beside them what `gzip -dc` and `zstd -dc` of the layers cost, one after another and all
 * at once: into nothing, and with what is a layer's due besides, its bytes hashed and written, by
 * OpenSSL and tee.
 */
export async function benchPacked({ workspace, file, rounds = 5 }) {
  const reason = Umoci.absent()
  if (reason) throw new Error(reason)
  const archive = await describe(file)
  const umoci = await Umoci.start(workspace, file)
  const strata = await Strata.start(workspace)
  const name = (kind) => `bench.local/packed:${kind}`
  const layouts = { gzip: umoci.layout.slice(0, -':bench'.length), zstd: join(workspace.part('zstd'), 'layout') }
  await run('skopeo', [
    '--tmpdir',
    workspace.folder,
    '--insecure-policy',
    'copy',
    '-q',
    '--dest-compress-format',
    'zstd',
    `docker-archive:${file}`,
    `oci:${layouts.zstd}:bench`,
  ])
  const sides = [{ side: umoci, file, image: archive.image, times: [] }]
  for (const [kind, layout] of Object.entries(layouts)) {
    const tar = join(workspace.folder, `${kind}.tar`)
    await run('tar', ['-C', layout, '-cf', tar, '.'])
    const way = new StrataWay(strata, 'named', `Strata, ${kind} layers (curl)`)
    way.load = (path, peaks) =>
      run(
        'curl',
        [
          '-sSf',
          '-o',
          '/dev/null',
          '-T',
          path,
          '--unix-socket',
          strata.socket,
          `http://strata/v1/images?name=${encodeURIComponent(name(kind))}`,
        ],
        { peaks },
      )
    sides.push({ side: way, file: tar, image: name(kind), times: [], kind })
  }
  for (let round = 0; round <= rounds; round++) {
    for (const { side, file: path, image, times } of sides) {
      const result = await oneRound(side, path, { ...archive, image }, workspace.folder)
      process.stderr.write(`${round} ${side.name}: ${JSON.stringify(result)}\n`)
      if (round > 0) times.push(result)
    }
  }
  const alone = []
  for (const end of Object.keys(ENDS))
    for (const [kind, layout] of Object.entries(layouts))
      for (const atOnce of [1, 0])
        alone.push([kind, end, atOnce, await unpacking(workspace, kind, layout, end, atOnce, rounds)])
  await strata.stop()
  return result(archive, sides, alone, rounds)
}

/** Where the bytes go to, as a shell says it; `$1` is a file's name. */
const ENDS = { 'into nothing': '>/dev/null', 'hashed and written': '| tee "$1" | openssl dgst -sha256 >/dev/null' }

/** Every blob of the layout that is packed, unpacked; `atOnce` 0: all of them. */
async function unpacking(workspace, kind, layout, end, atOnce, rounds) {
  const each = `${kind} -dc "$0" ${ENDS[end]}`
  const all = `cd "$2" && find "$1/blobs/sha256" -size +64k -printf '%p\\0%f\\0' | xargs -0 -n 2 -P ${atOnce} sh -c '${each}'`
  const times = []
  for (let round = 0; round < rounds; round++) {
    const folder = workspace.part('alone')
    const before = performance.now()
    await run('sh', ['-c', all, 'sh', layout, folder])
    times.push(seconds(before))
    await rm(folder, { recursive: true })
  }
  return times
}

function result(archive, sides, alone, rounds) {
  const times = (entry) => entry.times.map(({ mounted }) => mounted)
  const reference = median(times(sides[0]))
  const quotient = (values) => `1/${(reference / median(values)).toFixed(1)}`
  const rows = sides.map((entry) => [
    entry.side.name,
    (statSync(entry.file).size / 1e6).toFixed(0),
    spread(times(entry), 2),
    entry === sides[0] ? '1' : quotient(times(entry)),
    largest(entry.times.map(({ peaks }) => peaks)),
  ])
  rows[0][1] = rows[1][1]
  const gzip = reference / median(times(sides.find(({ kind }) => kind === 'gzip')))
  const text = [
    `${(archive.size / 1e9).toFixed(2)} GB unpacked, ${archive.entries} entries, ${archive.probes.length} layers; ${rounds} rounds after a first one. ${ask('umoci', ['--version'])}; ${sides[1].side.version}.`,
    '',
    table(
      ['', 'the layout, MB', 'to mounted, s: median (least–most)', 'of umoci', 'peak memory of each process, MiB'],
      rows,
    ),
    '',
    table(
      ['the layers alone', '', 's: median (least–most)', 'of umoci'],
      alone.map(([kind, end, atOnce, values]) => [
        `\`${kind} -dc\`, ${end}`,
        atOnce === 1 ? 'one after another' : 'all at once',
        spread(values, 2),
        quotient(values),
      ]),
    ),
    '',
    `- gzip layers: 1/${gzip.toFixed(1)} of umoci; the bar is 1/${BAR}: **${gzip >= BAR ? 'kept' : 'missed'}**`,
  ].join('\n')
  return { text, isFailed: gzip < BAR }
}
