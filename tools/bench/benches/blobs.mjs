import { randomBytes } from 'node:crypto'
import { closeSync, openSync, writeSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { freshDataKey, openStore } from '@strata/store'
import { bars } from '../plot.mjs'
import { run } from '../processes.mjs'
import { median, spread, table } from '../report.mjs'
import { Minio } from '../sides/minio.mjs'

const MIB = 1024 * 1024
const SIZE = 1024
/** minio.md's bar for the driver, as a part of a bare presigned upload. */
const BAR = 0.9

/**
 * Streams of 1 GiB into the store and out of it: our drivers beside a bare presigned upload and
 * download by curl, on one MinIO, in turns. The file is in the page cache.
 */
export async function benchBlobs({ workspace, rounds = 5 }) {
  if (Minio.absent()) throw new Error(Minio.absent())
  const minio = await Minio.start(workspace)
  const s3 = await openStore({ STRATA_S3_REGION: 'us-east-1', ...minio.environment() })
  const folder = await openStore({ STRATA_STORE: join(workspace.folder, 'store') })
  const file = makeFile(join(workspace.folder, 'bytes'))
  // `s3.client` is the driver's own: the presigned URL is signed by the same code.
  const curl = {
    put: async (key) => run('curl', ['-sSf', '-T', file, await s3.client.presign('PUT', key, 900)]),
    get: async (key) => run('curl', ['-sSf', '-o', '/dev/null', await s3.presignedGet(key, 900)]),
    store: s3,
  }
  const sides = { 'presigned, curl': curl, 's3 driver': through(s3, file), 'folder driver': through(folder, file) }
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
  return result(rates, rounds, minio.version)
}

function through(store, file) {
  return {
    store,
    put: (key) => store.put(key, bytesOf(file)),
    get: async (key) => {
      const { body } = await store.get(key)
      for await (const piece of body) void piece
    },
  }
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

function result(rates, rounds, version) {
  const bare = rates['presigned, curl']
  const of = (rate, way) => median(rate[way]) / median(bare[way])
  const rows = Object.entries(rates).map(([name, rate]) => [
    name,
    spread(rate.put, 0),
    of(rate, 'put').toFixed(2),
    spread(rate.get, 0),
    of(rate, 'get').toFixed(2),
  ])
  const share = of(rates['s3 driver'], 'put')
  const text = [
    `One object of ${SIZE} MiB, MiB/s, median (least–most) of ${rounds} rounds after a first one. ${version}, one drive, on the loopback.`,
    '',
    table(['', 'put', 'of the bare one', 'get', 'of the bare one'], rows),
    '',
    `The s3 driver's put is ${share.toFixed(2)} × a bare presigned upload; the bar is ${BAR}: **${share >= BAR ? 'kept' : 'missed'}**.`,
  ].join('\n')
  const svg = bars(
    `Putting an object of ${SIZE} MiB, MiB/s: median, least and most`,
    'MiB/s',
    Object.entries(rates).map(([label, { put }]) => ({
      label,
      value: median(put),
      least: Math.min(...put),
      most: Math.max(...put),
      isOurs: label !== 'presigned, curl',
    })),
  )
  return { text, isFailed: share < BAR, plot: { title: `Putting an object of ${SIZE} MiB`, svg } }
}
