import { randomBytes } from 'node:crypto'
import { closeSync, openSync, writeSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { freshDataKey, lentChunks, openStore } from '@strata/store'
import { describe, warm } from '../archive.mjs'
import { largest } from '../peaks.mjs'
import { bars } from '../plot.mjs'
import { ask, run } from '../processes.mjs'
import { median, spread, table } from '../report.mjs'
import { oneRound, seconds } from '../round.mjs'
import { Minio } from '../sides/minio.mjs'
import { Strata, StrataWay } from '../sides/strata.mjs'
import { Workspace } from '../workspace.mjs'

const MIB = 1024 * 1024
const SIZE = 1024
const MEMORY = '/dev/shm'
/** The driver's rate, as a part of that of a bare presigned request. */
const BAR = 0.9
/** A load's time, as a multiple of a bare presigned upload and download of the same bytes. */
const LOAD_BAR = 1.7
const BARE = 'presigned, curl'
const OURS = 's3 driver'

/**
 * Streams of 1 GiB into the store and out of it: our drivers beside a bare presigned upload and
 * download by curl, on one MinIO, in turns, on the disk and in memory. With an archive also its
 * load into MinIO, beside the same bytes up and down by curl. Files are in the page cache.
 */
export async function benchBlobs({ workspace, file, rounds = 5 }) {
  if (Minio.absent()) throw new Error(Minio.absent())
  const bytes = makeFile(join(workspace.folder, 'bytes'))
  const streams = [{ place: fileSystemOf(workspace.folder), ...(await streamRounds(workspace, bytes, rounds)) }]
  if (fileSystemOf(MEMORY) === 'tmpfs') {
    const inMemory = Workspace.create(join(MEMORY, 'strata-bench'))
    try {
      streams.push({ place: 'tmpfs', ...(await streamRounds(inMemory, bytes, rounds)) })
    } finally {
      inMemory.remove()
    }
  }
  return result(streams, file && (await loadRounds(workspace, file, rounds)), rounds)
}

async function streamRounds(workspace, file, rounds) {
  const minio = await Minio.start(workspace)
  const s3 = await openStore({ STRATA_S3_REGION: 'us-east-1', ...minio.environment() })
  const folder = await openStore({ STRATA_STORE: join(workspace.folder, 'store') })
  const sides = { [BARE]: bare(s3, file), [OURS]: through(s3, file), 'folder driver': through(folder, file) }
  const rates = Object.fromEntries(Object.keys(sides).map((name) => [name, { put: [], get: [] }]))
  for (let round = 0; round <= rounds; round++) {
    // Whoever comes after another meets what that left to the disk, so the order turns.
    const names = Object.keys(sides)
    for (const name of [...names.slice(round % names.length), ...names.slice(0, round % names.length)]) {
      const { put, get, store } = sides[name]
      const key = freshDataKey('bench')
      await run('sync', ['-f', workspace.folder])
      const times = [performance.now()]
      for (const way of [put, get]) {
        await way(key)
        times.push(performance.now())
      }
      await store.delete([key])
      const rate = { put: (SIZE * 1000) / (times[1] - times[0]), get: (SIZE * 1000) / (times[2] - times[1]) }
      process.stderr.write(`${round} ${name}: ${JSON.stringify(rate)}\n`)
      if (round > 0) for (const way of ['put', 'get']) rates[name][way].push(rate[way])
    }
  }
  await Promise.all([s3.close(), folder.close()])
  await minio.stop()
  return { rates, version: minio.version }
}

/** `s3.client` is the driver's own: the presigned URL is signed by the same code. */
function bare(s3, file) {
  return {
    put: async (key) => run('curl', ['-sSf', '-T', file, await s3.client.presign('PUT', key, 900)]),
    get: async (key) => run('curl', ['-sSf', '-o', '/dev/null', await s3.client.presign('GET', key, 900)]),
    store: s3,
  }
}

function through(store, file) {
  return {
    store,
    put: (key) => store.put(key, bytesOf(file)),
    get: async (key) => {
      const { body } = await store.get(key)
      for await (const piece of lentChunks(body)) void piece
    },
  }
}

/** The archive into a Strata on MinIO, to a mounted root, and its bytes up and down by curl. */
async function loadRounds(workspace, file, rounds) {
  const archive = await describe(file)
  const strata = await Strata.start(workspace, { onMinio: true })
  const side = new StrataWay(strata, 'curl', 'Strata on MinIO')
  const s3 = await openStore({ STRATA_S3_REGION: 'us-east-1', ...strata.minio.environment() })
  const { put, get } = bare(s3, file)
  const times = { load: [], put: [], get: [], peaks: [] }
  for (let round = 0; round <= rounds; round++) {
    const key = freshDataKey('bench')
    warm(file)
    await run('sync', ['-f', workspace.folder])
    const started = performance.now()
    await put(key)
    const up = seconds(started)
    await get(key)
    const down = seconds(started) - up
    await s3.delete([key])
    const { mounted, peaks } = await oneRound(side, file, archive, workspace.folder)
    process.stderr.write(`${round} load: ${JSON.stringify({ mounted, up, down, peaks })}\n`)
    if (round === 0) continue
    for (const [name, value] of Object.entries({ load: mounted, put: up, get: down, peaks })) times[name].push(value)
  }
  await s3.close()
  await strata.stop()
  return { archive, ...times }
}

/** As an archive's bytes come in: one buffer, lent again and again. */
async function* bytesOf(path) {
  const file = await open(path)
  const buffer = Buffer.allocUnsafeSlow(MIB)
  try {
    for (let read; (read = await file.read(buffer, 0, MIB)).bytesRead > 0;) yield buffer.subarray(0, read.bytesRead)
  } finally {
    await file.close()
  }
}

function makeFile(path) {
  const file = openSync(path, 'w')
  const piece = randomBytes(4 * MIB)
  for (let written = 0; written < SIZE * MIB; written += writeSync(file, piece)) piece.writeUInt32LE(written / MIB)
  closeSync(file)
  return path
}

function fileSystemOf(folder) {
  // The one on top, if several are mounted there.
  return ask('findmnt', ['-n', '-o', 'FSTYPE', '-T', folder])?.split('\n').at(-1)
}

function result(streams, load, rounds) {
  const share = ({ rates }, name, way) => median(rates[name][way]) / median(rates[BARE][way])
  const rows = streams.flatMap((stream) =>
    Object.entries(stream.rates).map(([name, rate]) => [
      stream.place,
      name,
      spread(rate.put, 0),
      share(stream, name, 'put').toFixed(2),
      spread(rate.get, 0),
      share(stream, name, 'get').toFixed(2),
    ]),
  )
  const verdicts = streams.flatMap((stream) =>
    ['put', 'get'].map((way) => {
      const part = share(stream, OURS, way)
      return {
        isKept: part >= BAR,
        text: `- The s3 driver's ${way} on ${stream.place} is ${part.toFixed(2)} × a bare presigned one; the bar is ${BAR}`,
      }
    }),
  )
  if (load) {
    const multiple = median(load.load) / (median(load.put) + median(load.get))
    verdicts.push({
      isKept: multiple <= LOAD_BAR,
      text: `- A load of ${(load.archive.size / 1e9).toFixed(2)} GB into MinIO, to a mounted root, takes ${spread(load.load, 2)} s: ${multiple.toFixed(2)} × the same bytes up (${spread(load.put, 2)} s) and down (${spread(load.get, 2)} s) by curl; the bar is ${LOAD_BAR}. Peak memory, MiB: ${largest(load.peaks)}`,
    })
  }
  const text = [
    `One object of ${SIZE} MiB, MiB/s, median (least–most) of ${rounds} rounds after a first one. ${streams[0].version}, one drive, on the loopback.`,
    '',
    table(['on', '', 'put', 'of the bare one', 'get', 'of the bare one'], rows),
    '',
    ...verdicts.map((verdict) => `${verdict.text}: **${verdict.isKept ? 'kept' : 'missed'}**.`),
  ].join('\n')
  const title = `An object of ${SIZE} MiB into MinIO and out of it, on ${streams[0].place}`
  const svg = bars(
    `${title}, MiB/s: median, least and most`,
    'MiB/s',
    ['put', 'get'].flatMap((way) =>
      Object.entries(streams[0].rates).map(([label, rate]) => ({
        label: `${way}, ${label}`,
        value: median(rate[way]),
        least: Math.min(...rate[way]),
        most: Math.max(...rate[way]),
        isOurs: label !== BARE,
      })),
    ),
  )
  return { text, isFailed: verdicts.some(({ isKept }) => !isKept), plot: { title, svg } }
}
