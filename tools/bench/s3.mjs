// The s3 driver's upload against bare ones, on a MinIO of its own: `node tools/bench/s3.mjs [MIB=1024] [ROUNDS=5]`.
//   driver  S3Store.put of a stream, read from a file into one buffer, as an archive's bytes come in
//   curl    curl -T of the same file to one presigned URL: the bare upload that the driver is measured by
//   parts   presigned part URLs, two on their way at a time, from memory: what is left of the driver without its reading, copying and trying again
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, openSync, readSync, rmSync, writeSync, closeSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { freshDataKey, S3Store } from '@strata/store'
import { TestS3 } from '@strata/store/testing'

const MIB = 1024 * 1024
const PART = 16 * MIB
const size = Number(process.argv[2] ?? 1024) * MIB
const rounds = Number(process.argv[3] ?? 5)
const folder = mkdtempSync('/var/tmp/strata-bench-s3-')
const s3 = await TestS3.start('minio', '/var/tmp')
const store = await S3Store.open({ ...s3, endpoint: s3.endpoint })
const file = join(folder, 'bytes')
const ways = { curl, driver, parts }
const took = { curl: [], driver: [], parts: [] }
try {
  const fd = openSync(file, 'w')
  for (let at = 0; at < size; at += 4 * MIB) writeSync(fd, randomBytes(4 * MIB))
  closeSync(fd)
  for (let round = -1; round < rounds; round++) {
    // The order turns, so that no way always comes after the same other.
    const names = Object.keys(ways)
    for (let i = 0; i < names.length; i++) {
      const name = names[(i + round + 1) % names.length]
      const key = freshDataKey('bench')
      const began = process.hrtime.bigint()
      await ways[name](key)
      const seconds = Number(process.hrtime.bigint() - began) / 1e9
      if (round >= 0) took[name].push(size / MIB / seconds)
      await store.delete([key])
    }
  }
  console.log(`${size / MIB} MiB, ${rounds} rounds after one to warm up, ${cpus().length} CPUs, MiB/s`)
  for (const [name, speeds] of Object.entries(took)) console.log(`${name.padEnd(8)} median ${median(speeds).toFixed(0)}   ${speeds.map((speed) => speed.toFixed(0)).join(' ')}`)
  console.log(`driver / curl: ${(median(took.driver) / median(took.curl)).toFixed(2)}`)
} finally {
  await store.close()
  await s3.remove()
  rmSync(folder, { recursive: true })
}

async function driver(key) {
  await store.put(key, bytesOf(file))
}

async function* bytesOf(path) {
  const handle = await open(path)
  const buffer = Buffer.allocUnsafeSlow(MIB)
  try {
    for (;;) {
      const { bytesRead } = await handle.read(buffer, 0, MIB)
      if (bytesRead === 0) return
      yield buffer.subarray(0, bytesRead)
    }
  } finally {
    await handle.close()
  }
}

async function curl(key) {
  await promisify(execFile)('curl', ['-sSf', '-T', file, await presignedPut(key)])
}

/** In a process of its own there would be the copy out of the page cache too; here are the requests alone. */
async function parts(key) {
  const { client } = store
  const { Multipart } = await import('../../libs/store/dist/s3/multipart.js')
  const upload = await Multipart.begin(client, key)
  const buffers = [0, 1, 2].map(() => Buffer.allocUnsafeSlow(PART))
  const fd = openSync(file, 'r')
  for (let at = 0, i = 0; at < size; at += PART, i++) {
    const bytes = buffers[i % 3].subarray(0, readSync(fd, buffers[i % 3], 0, PART, at))
    await upload.add({ bytes, release: () => undefined })
  }
  closeSync(fd)
  await upload.complete()
}

async function presignedPut(key) {
  return store.client.presign('PUT', key, 900)
}

function median(values) {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]
}
