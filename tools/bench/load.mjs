import { closeSync, openSync, readFileSync, rmSync, statSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { describe, warm } from './archive.mjs'
import { Docker } from './docker.mjs'
import { median, memory, run } from './processes.mjs'
import { Strata } from './strata.mjs'

/**
 * Rounds of docker, Strata by curl and Strata by its own command, one after another. Each begins with nothing of the image there, and ends when the image's
 * root is mounted read-only and a file of each layer was read; then, timed apart, all of it is forced to the disk. The first round of each warms up and is left out.
 */
export async function benchLoad({ file, folder, rounds = 5, withDocker }) {
  const archive = describe(file)
  const docker = withDocker ? await Docker.start(folder) : undefined
  const rows = { docker: [], curl: [], 'strata load': [] }
  try {
    for (let round = 0; round <= rounds; round++) {
      if (docker) rows.docker.push(dockerRound(docker, file, archive, folder))
      for (const way of ['curl', 'strata load']) rows[way].push(await strataRound(way, file, archive, folder))
      for (const [name, times] of Object.entries(rows)) if (times.length > 0) process.stderr.write(`${round} ${name}: ${JSON.stringify(times.at(-1))}\n`)
    }
    for (const times of Object.values(rows)) times.shift()
    const title = `${(archive.size / 1e9).toFixed(2)} GB, ${archive.entries} entries, ${archive.probes.length} layers; ${rounds} rounds${docker ? `; docker ${docker.version()} with ${docker.driver()}` : ''}`
    return `${title}\n\n${table(rows)}`
  } finally {
    await docker?.stop()
  }
}

function dockerRound(docker, file, archive, folder) {
  const before = begin(file, folder)
  docker.load(file)
  const loaded = seconds(before)
  read(docker.mount(archive.image), archive)
  const mounted = seconds(before)
  const synced = closing(folder, before)
  const peak = memory(docker.process.pid).peak
  docker.unmount()
  docker.remove(archive.image)
  return { loaded, mounted, synced, peak }
}

async function strataRound(way, file, archive, folder) {
  const strata = await Strata.start(folder)
  try {
    const before = begin(file, folder)
    strata.load(way, file)
    const loaded = seconds(before)
    read(strata.mount(archive.image), archive)
    const mounted = seconds(before)
    const synced = closing(folder, before)
    const result = { loaded, mounted, synced, idle: strata.idle, peak: strata.peak() }
    strata.unmount(archive.image)
    return result
  } finally {
    await strata.stop()
  }
}

function begin(file, folder) {
  warm(file)
  touchMemory(folder, statSync(file).size)
  run('sync', ['-f', folder])
  return performance.now()
}

/** A virtual machine may have given free memory back to its host, and the first to use it again waits several times as long as the copy itself. So that falls on nobody's round. */
function touchMemory(folder, size) {
  const path = join(folder, 'touched')
  const file = openSync(path, 'w')
  const piece = Buffer.alloc(8 * 1024 * 1024, 1)
  for (let written = 0; written < 1.5 * size; ) written += writeSync(file, piece)
  closeSync(file)
  rmSync(path)
}

function closing(folder, before) {
  run('sync', ['-f', folder])
  return seconds(before)
}

function read(root, { probes }) {
  for (const probe of probes) readFileSync(join(root, probe))
}

function seconds(since) {
  return (performance.now() - since) / 1000
}

function table(rows) {
  const of = (times, field) => median(times.map((time) => time[field]))
  const spread = (times, field) => `${of(times, field).toFixed(2)} (${Math.min(...times.map((time) => time[field])).toFixed(2)}–${Math.max(...times.map((time) => time[field])).toFixed(2)})`
  const base = rows.docker.length > 0 ? rows.docker : undefined
  const ratio = (times, field) => (base === undefined || times === base ? '' : `1/${(of(base, field) / of(times, field)).toFixed(1)}`)
  const lines = Object.entries(rows)
    .filter(([, times]) => times.length > 0)
    .map(([name, times]) => `| ${name} | ${spread(times, 'mounted')} | ${ratio(times, 'mounted')} | ${spread(times, 'synced')} | ${ratio(times, 'synced')} | ${times === base ? '' : of(times, 'idle').toFixed(0)} | ${of(times, 'peak').toFixed(0)} |`)
  return ['| | to mounted, s: median (least–most) | of docker | with a closing sync, s | of docker | idle, MiB | peak, MiB |', '| --- | --- | --- | --- | --- | --- | --- |', ...lines].join('\n')
}
