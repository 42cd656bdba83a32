import { randomBytes } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { makeLayer } from '@strata/archive/testing'
import { digestOf } from '@strata/oci'
import { memory } from '../peaks.mjs'
import { lines } from '../plot.mjs'
import { ask, throwIfInterrupted } from '../processes.mjs'
import { table } from '../report.mjs'
import { Minio } from '../sides/minio.mjs'
import { Strata } from '../sides/strata.mjs'

/** Loads and removals between two collections, after which everything is looked at. */
const BATCH = 50

/**
 * What is looked at, each a number that has to stay as it is while images come and go. `bound`: how
 * much the line through the second half of all looks may rise from its begin to its end. The first
 * half is left out: caches fill, and V8's heap finds its size.
 */
const LOOKS = {
  rss: { label: 'resident memory', unit: 'MiB', bound: 24 },
  redis: { label: 'Redis: used_memory, journal apart', unit: 'MiB', bound: 0.5 },
  redisKeys: { label: 'Redis: keys, journal apart', unit: '', bound: 20 },
  files: { label: 'open files', unit: '', bound: 6 },
  objects: { label: 'store: objects, tombstones apart', unit: '', bound: 2 },
  node: { label: 'node: folder on disk', unit: 'KiB', bound: 64 },
  mounts: { label: 'node: mounts', unit: '', bound: 1 },
}

/** Beside it, what grows by what was promised. */
const SHOWN = {
  journal: { label: 'Redis: the journal', unit: 'MiB' },
  tombstones: { label: 'store: tombstones', unit: '' },
}

/**
 * Keys and bytes of the journal: the records of requests that ended, which are promised for a day
 * (architecture.md, "Jobs").
 */
const JOURNAL = `
local keys, bytes, cursor = 0, 0, '0'
repeat
  local page = redis.call('SCAN', cursor, 'MATCH', 'strata:job*', 'COUNT', 1000)
  cursor = page[1]
  for _, key in ipairs(page[2]) do keys = keys + 1; bytes = bytes + redis.call('MEMORY', 'USAGE', key, 'SAMPLES', 0) end
until cursor == '0'
return { keys, bytes }`

/**
 * Small images, each with a layer of its own, loaded and removed one after another, collected every
 * now and then.
 */
export async function benchChurn({ workspace, count = 2000, onMinio = false }) {
  if (onMinio && Minio.absent()) throw new Error(Minio.absent())
  const strata = await Strata.start(workspace, { onMinio })
  const agent = new Agent({ keepAlive: true })
  const call = (method, path, body) => answer(agent, strata.socket, method, path, body)
  const looks = []
  const times = []
  for (let done = 0; done < count;) {
    for (const last = Math.min(done + BATCH, count); done < last; done++) {
      throwIfInterrupted()
      const name = `churn/image-${done}:1`
      const archive = await smallImage(name, done)
      const before = performance.now()
      await call('POST', '/v1/images', archive)
      await call('DELETE', `/v1/images/${encodeURIComponent(name)}`)
      times.push(performance.now() - before)
    }
    const { store } = await call('POST', '/v1/gc')
    looks.push({ done, ...look(strata, store.tombstones.count) })
    process.stderr.write(`${JSON.stringify(looks.at(-1))}\n`)
  }
  agent.destroy()
  await strata.stop()
  return result(looks, times, count, strata.version)
}

function look(strata, tombstones) {
  const pids = Object.values(strata.processes)
  const redis = (...args) => ask('redis-cli', ['-s', strata.redis, ...args])
  const [journalKeys, journal] = redis('eval', JOURNAL, '0').split('\n').map(Number)
  // MinIO keeps an object's record, or all of it, in a file of this name; the folder has its locks
  // beside the objects.
  const [folder, isObject] = strata.minio
    ? [join(strata.minio.data, 'drive', strata.minio.bucket), (path) => path.endsWith('/xl.meta')]
    : [join(strata.data, 'store'), (path) => !/^\/(locks|tmp)\//.test(path)]
  return {
    rss: sum(pids.map((pid) => memory(pid).now)),
    redis: (Number(/^used_memory:(\d+)/m.exec(redis('info', 'memory'))[1]) - journal) / 1024 ** 2,
    redisKeys: Number(redis('dbsize')) - journalKeys,
    journal: journal / 1024 ** 2,
    files: sum(pids.map((pid) => readdirSync(`/proc/${pid}/fd`).length)),
    objects: filesBelow(folder).filter(isObject).length - tombstones,
    tombstones,
    node: Number(ask('du', ['-sxk', join(strata.data, 'node')]).split('\t')[0]),
    mounts: readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .filter((line) => line.includes(` ${strata.data}/`)).length,
  }
}

function filesBelow(folder) {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length))
}

/**
 * Seventeen files of a few KiB; every eighth with one that is an object of its own in the store,
 * every fourth layer compressed.
 */
async function smallImage(name, number) {
  const tree = new Map([
    ['etc', { folder: true }],
    ...Array.from({ length: 16 }, (_, at) => [`etc/file-${at}`, { content: randomBytes(1024 * (1 + (at % 4))) }]),
  ])
  tree.set('large', { content: number % 8 === 0 ? randomBytes(1536 * 1024) : '' })
  const layer = await makeLayer(tree)
  const config = JSON.stringify({
    architecture: process.arch === 'x64' ? 'amd64' : process.arch,
    os: 'linux',
    config: { Cmd: ['/none'] },
    rootfs: { type: 'layers', diff_ids: [digestOf(layer)] },
  })
  const files = {
    'layer.tar': number % 4 === 3 ? gzipSync(layer) : layer,
    'config.json': config,
    'manifest.json': JSON.stringify([{ Config: 'config.json', RepoTags: [name], Layers: ['layer.tar'] }]),
  }
  return makeLayer(new Map(Object.entries(files).map(([path, content]) => [path, { content }])))
}

function answer(agent, socketPath, method, path, body) {
  return new Promise((resolve, reject) => {
    const sent = request(
      {
        agent,
        socketPath,
        method,
        path,
        headers: body ? { 'content-length': body.length, 'content-type': 'application/x-tar' } : {},
      },
      (response) => {
        let text = ''
        response
          .setEncoding('utf8')
          .on('data', (piece) => (text += piece))
          .once('error', reject)
        response.once('end', () =>
          response.statusCode < 300
            ? resolve(text === '' ? undefined : JSON.parse(text))
            : reject(new Error(`${method} ${path}: ${response.statusCode} ${text}`)),
        )
      },
    )
    sent.once('error', reject).end(body)
  })
}

function result(looks, times, count, version) {
  const half = looks.slice(looks.length >> 1)
  const rows = Object.entries(LOOKS).map(([field, { label, unit, bound }]) => {
    const rise = slope(half.map((each) => [each.done, each[field]])) * (half.at(-1).done - half[0].done)
    const cell = (value) => `${value.toFixed(unit === 'MiB' ? 1 : 0)}${unit && ` ${unit}`}`
    return {
      isFlat: rise <= bound,
      cells: [
        label,
        cell(looks[0][field]),
        cell(half[0][field]),
        cell(looks.at(-1)[field]),
        `${rise.toFixed(2)}`,
        `${bound}`,
        rise <= bound ? 'flat' : '**rises**',
      ],
    }
  })
  const sorted = [...times].sort((a, b) => a - b)
  const text = [
    `${count} images loaded and removed one after another, a collection every ${BATCH}, everything looked at right after it; ${version}. A load and a removal: ${sorted[sorted.length >> 1].toFixed(0)} ms (median), ${sorted[Math.floor(sorted.length * 0.99)].toFixed(0)} ms (99th of 100).`,
    '',
    table(
      [
        '',
        `after ${looks[0].done}`,
        `after ${half[0].done}`,
        `after ${looks.at(-1).done}`,
        'rise of the line through the second half',
        'bound',
        '',
      ],
      rows.map(({ cells }) => cells),
    ),
    '',
    `At the end: ${looks.at(-1).tombstones} tombstones in the store; ${looks.at(-1).journal.toFixed(1)} MiB of Redis are the journal, ended requests that are kept for a day, ${((looks.at(-1).journal * 1024) / count).toFixed(1)} KiB each.`,
  ].join('\n')
  const panels = Object.entries({ ...LOOKS, ...SHOWN }).map(([field, { label, unit }]) => ({
    label: unit ? `${label}, ${unit}` : label,
    unit: '',
    points: looks.map((each) => [each.done, each[field]]),
  }))
  return {
    text,
    isFailed: rows.some(({ isFlat }) => !isFlat),
    plot: {
      title: `${count} loads and removals`,
      svg: lines(`${count} loads and removals of small images: what stays`, 'images', panels),
    },
  }
}

/** Least squares. */
function slope(points) {
  const mean = (at) => sum(points.map((point) => point[at])) / points.length
  const [x, y] = [mean(0), mean(1)]
  const spread = sum(points.map((point) => (point[0] - x) ** 2))
  return spread === 0 ? 0 : sum(points.map((point) => (point[0] - x) * (point[1] - y))) / spread
}

function sum(values) {
  return values.reduce((total, value) => total + value, 0)
}
