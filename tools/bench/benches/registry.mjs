import { createHash, randomBytes } from 'node:crypto'
import { existsSync, writeFileSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { join } from 'node:path'
import { bars } from '../plot.mjs'
import { largest, Peaks } from '../peaks.mjs'
import { ask, run, throwIfInterrupted } from '../processes.mjs'
import { median, spread, table } from '../report.mjs'
import { Minio } from '../sides/minio.mjs'
import { distribution, strataRegistry } from '../sides/registries.mjs'

const BLOB = 500_000_000
const CLIENTS = 8
/** How long manifests and heads are asked for, and by how many connections of each client. */
const SECONDS = 5
const CONNECTIONS = 4
/** Of the faster peer, on the folder; the last in MiB. */
const BARS = { push: 1.3, pull: 0.9, manifest: 3, memory: 250 }
const MANIFEST = 'application/vnd.oci.image.manifest.v1+json'
/** Built by Go: docs/performance.md says how. Without it, Debian's is the only peer. */
const BUILT = join(import.meta.dirname, '../../../.tools/bin/registry')

/**
 * The registry beside CNCF distribution: Debian's, and the version that Go builds. Pushes and pulls
 * of a blob by one client and by eight, and reads of manifests and heads of blobs while `count`
 * tags are in one repository. The sides take turns.
 */
export async function benchRegistry({ workspace, rounds = 5, count = 100_000, onMinio = false }) {
  if (onMinio && Minio.absent()) throw new Error(Minio.absent())
  for (const program of ['wrk', 'ab'])
    if (ask('which', [program]) === undefined)
      throw new Error(`${program} is not there: apt-get install wrk apache2-utils`)
  const minios = []
  const minio = async () => {
    if (!onMinio) return undefined
    minios.push(await Minio.start(workspace))
    return minios.at(-1)
  }
  const sides = [await strataRegistry(workspace, await minio())]
  const debian = ask('docker-registry', ['--version'])
  if (debian !== undefined)
    sides.push(
      await distribution(workspace, await minio(), {
        name: 'docker-registry (Debian)',
        program: 'docker-registry',
        version: debian,
      }),
    )
  if (existsSync(BUILT))
    sides.push(
      await distribution(workspace, await minio(), {
        name: 'distribution',
        program: BUILT,
        // It begins with the path that it was called by.
        version: (ask(BUILT, ['--version']) ?? '').replace(/^\S*\//, ''),
      }),
    )
  const files = Array.from({ length: CLIENTS }, (_, at) => join(workspace.folder, `blob-${at}`))
  for (const file of files) await run('sh', ['-c', `head -c ${BLOB} /dev/urandom > "$1"`, 'sh', file])
  const results = new Map(sides.map(({ name }) => [name, { figures: {}, peaks: [] }]))
  const note = (side, figure, value) => {
    ;(results.get(side.name).figures[figure] ??= []).push(value)
    process.stderr.write(`${side.name} ${figure} ${value.toFixed(1)}\n`)
  }
  const targets = new Map()
  for (const side of sides) targets.set(side, await fill(side, count))
  for (let round = 0; round <= rounds; round++) {
    // Whoever comes after another meets what that left to the disk, so the order turns.
    const first = round % sides.length
    for (const side of [...sides.slice(first), ...sides.slice(0, first)]) {
      const peaks = new Peaks()
      side.watch(peaks)
      const figures = await oneRound(side, files, targets.get(side), workspace.folder)
      const most = peaks.end()
      if (round === 0) continue
      for (const [figure, value] of Object.entries(figures)) note(side, figure, value)
      results.get(side.name).peaks.push(most)
    }
  }
  const versions = [...sides.map(({ version }) => version), ...(onMinio ? [minios[0].version] : [])]
  for (const side of sides) await side.stop()
  for (const one of minios) await one.stop()
  return result(sides, results, { rounds, count, onMinio, versions })
}

async function oneRound(side, files, target, folder) {
  throwIfInterrupted()
  const figures = {}
  for (const [name, clients] of [
    ['one', 1],
    ['eight', CLIENTS],
  ]) {
    const some = files.slice(0, clients)
    const digests = []
    for (const file of some) digests.push(await renew(file))
    await run('sync', ['-f', folder])
    const rate = (since) => (clients * BLOB) / 1e3 / (performance.now() - since)
    let since = performance.now()
    await Promise.all(some.map((file, at) => push(side, at, file, digests[at])))
    figures[`push, ${name}`] = rate(since)
    await run('sync', ['-f', folder])
    since = performance.now()
    await Promise.all(digests.map((digest, at) => pull(side, at, digest)))
    figures[`pull, ${name}`] = rate(since)
    for (const digest of digests)
      await run('curl', ['-sSf', '-o', '/dev/null', '-X', 'DELETE', ...blob(side, 0, digest)])
    // No side frees them by that alone, and the disk would be full before the end.
    await run('find', [folder, '-mindepth', '2', '-type', 'f', '-size', '+1M', '-delete'])
  }
  const script = join(folder, 'manifests.lua')
  writeFileSync(script, target.script)
  const manifests = await requests(side, (url) => wrk(side, url, script))
  const heads = await requests(side, (url) => ab(side, `${url}${target.blob}`))
  return {
    ...figures,
    'manifests a second': manifests.rate,
    'manifest, p99 ms': manifests.p99,
    'heads a second': heads.rate,
    'head, p99 ms': heads.p99,
  }
}

/** Other bytes than before, so that no side has them. Gives the digest. */
async function renew(file) {
  const seed = randomBytes(16).toString('hex')
  await run('sh', ['-c', `printf ${seed} | dd of="$1" conv=notrunc status=none`, 'sh', file])
  return `sha256:${(await run('sha256sum', [file])).slice(0, 64)}`
}

async function push(side, at, file, digest) {
  const url = side.urls[at % side.urls.length]
  const answer = await run('curl', [
    '-sSf',
    '-i',
    '-X',
    'POST',
    '-H',
    side.header,
    `${url}/v2/bench/uploads/blobs/uploads/`,
  ])
  const location = new URL(/^location: *(\S+)/im.exec(answer)[1], url)
  location.searchParams.set('digest', digest)
  // No side is asked whether it wants the body.
  const headers = ['-H', side.header, '-H', 'Expect:', '-H', 'Content-Type: application/octet-stream']
  await run('curl', ['-sSf', '-o', '/dev/null', ...headers, '-T', file, `${location}`])
}

function blob(side, at, digest) {
  return ['-H', side.header, `${side.urls[at % side.urls.length]}/v2/bench/uploads/blobs/${digest}`]
}

async function pull(side, at, digest) {
  await run('curl', ['-sSf', '-o', '/dev/null', ...blob(side, at, digest)])
}

/** One client to each address, or two to the only one: every side has two. */
async function requests(side, ask) {
  const urls = side.urls.length === 1 ? [side.urls[0], side.urls[0]] : side.urls
  const answers = await Promise.all(urls.map((url) => ask(url)))
  return {
    rate: answers.reduce((sum, { rate }) => sum + rate, 0),
    p99: Math.max(...answers.map(({ p99 }) => p99)),
  }
}

/** Manifests of tags at random. */
async function wrk(side, url, script) {
  const output = await run('wrk', ['-t1', `-c${CONNECTIONS}`, `-d${SECONDS}s`, '--latency', '-s', script, url])
  if (/Non-2xx|Socket errors/.test(output)) throw new Error(`${side.name}: ${output}`)
  const [, value, unit] = /99%\s+([\d.]+)(us|ms|s)/.exec(output)
  return {
    rate: Number(/Requests\/sec:\s+([\d.]+)/.exec(output)[1]),
    p99: Number(value) * { us: 0.001, ms: 1, s: 1000 }[unit],
  }
}

/** wrk waits for the body of a HEAD. */
async function ab(side, url) {
  const output = await run('ab', [
    '-i',
    '-k',
    '-q',
    '-t',
    `${SECONDS}`,
    '-n',
    '1000000',
    '-c',
    `${CONNECTIONS}`,
    '-H',
    side.header,
    url,
  ])
  if (!/Failed requests:\s+0\b/.test(output) || /Non-2xx/.test(output)) throw new Error(`${side.name}: ${output}`)
  return {
    rate: Number(/Requests per second:\s+([\d.]+)/.exec(output)[1]),
    p99: Number(/99%\s+(\d+)/.exec(output)[1]),
  }
}

/** An image with `count` tags in one repository, by sixteen connections. */
async function fill(side, count) {
  const agent = new Agent({ keepAlive: true, maxSockets: 16 })
  const [headerName, headerValue] = side.header.split(/: (.*)/)
  const send = (method, path, headers, body) =>
    new Promise((resolve, reject) => {
      const sent = request(new URL(path, side.urls[0]), {
        agent,
        method,
        headers: { [headerName]: headerValue, ...headers },
      })
      sent.once('error', reject).once('response', (response) => {
        response.resume().once('end', () => {
          if (response.statusCode < 300) resolve(response)
          else reject(new Error(`${side.name}: ${method} ${path}: ${response.statusCode}`))
        })
      })
      sent.end(body)
    })
  const put = async (bytes) => {
    const digest = digestOf(bytes)
    const { headers } = await send('POST', '/v2/bench/many/blobs/uploads/', {})
    const location = new URL(headers.location, side.urls[0])
    location.searchParams.set('digest', digest)
    const type = { 'content-type': 'application/octet-stream', 'content-length': bytes.length }
    await send('PUT', `${location.pathname}${location.search}`, type, bytes)
    return { digest, size: bytes.length }
  }
  const layer = randomBytes(100)
  const config = Buffer.from(
    JSON.stringify({ architecture: 'amd64', os: 'linux', rootfs: { type: 'layers', diff_ids: [digestOf(layer)] } }),
  )
  const manifest = JSON.stringify({
    schemaVersion: 2,
    mediaType: MANIFEST,
    config: { mediaType: 'application/vnd.oci.image.config.v1+json', ...(await put(config)) },
    layers: [{ mediaType: 'application/vnd.oci.image.layer.v1.tar', ...(await put(layer)) }],
  })
  let next = 0
  const since = performance.now()
  await Promise.all(
    Array.from({ length: 16 }, async () => {
      for (let tag; (tag = next++) < count;) {
        throwIfInterrupted()
        await send('PUT', `/v2/bench/many/manifests/t${tag}`, { 'content-type': MANIFEST }, manifest)
      }
    }),
  )
  agent.destroy()
  process.stderr.write(`${side.name}: ${count} tags in ${((performance.now() - since) / 1000).toFixed(0)} s\n`)
  return {
    script: `
math.randomseed(os.time() + ${Math.floor(Math.random() * 1e6)})
request = function()
  local path = '/v2/bench/many/manifests/t' .. math.random(0, ${count - 1})
  return wrk.format('GET', path, { ['${headerName}'] = '${headerValue}', ['Accept'] = '${MANIFEST}' })
end
`,
    blob: `/v2/bench/many/blobs/${digestOf(layer)}`,
  }
}

function digestOf(bytes) {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`
}

function result(sides, results, { rounds, count, onMinio, versions }) {
  const figures = Object.keys(results.get(sides[0].name).figures)
  const of = (side, figure) => results.get(side.name).figures[figure]
  const rows = sides.map((side) => [
    side.name,
    ...figures.map((figure) => spread(of(side, figure), /p99/.test(figure) ? 1 : 0)),
    largest(results.get(side.name).peaks),
  ])
  const [ours, ...peers] = sides
  const fastest = (figure) => Math.max(...peers.map((peer) => median(of(peer, figure))))
  const ratio = (figure) => median(of(ours, figure)) / fastest(figure)
  const gateways = Math.max(...results.get(ours.name).peaks.flatMap((each) => Object.values(each)))
  const checks =
    peers.length === 0
      ? []
      : [
          ...['push, one', 'push, eight'].map((figure) => [figure, ratio(figure), BARS.push]),
          ...['pull, one', 'pull, eight'].map((figure) => [figure, ratio(figure), BARS.pull]),
          ['manifests a second', ratio('manifests a second'), BARS.manifest],
        ].map(([figure, value, bar]) => ({
          text: `${figure}: ${value.toFixed(2)} × the faster peer${onMinio ? '' : `; the bar is ${bar} ×: **${value >= bar ? 'kept' : 'missed'}**`}`,
          isKept: onMinio || value >= bar,
        }))
  checks.push({
    text: `memory of a gateway: ${gateways.toFixed(0)} MiB; the bar is ${BARS.memory}: **${gateways <= BARS.memory ? 'kept' : 'missed'}**`,
    isKept: gateways <= BARS.memory,
  })
  const text = [
    `A blob of ${BLOB / 1e6} MB, by one client and by ${CLIENTS} at once (each its own), MB/s; requests of ${2 * CONNECTIONS} connections while one repository has ${count} tags; medians (least–most) of ${rounds} rounds after a first one. Blobs in ${onMinio ? 'a MinIO for each side, through the registry' : 'a folder'}. ${versions.join('; ')}.`,
    '',
    table(['', ...figures, 'peak memory, MiB'], rows),
    '',
    ...checks.map(({ text: line }) => `- ${line}`),
  ].join('\n')
  const svg = bars(
    `Pulling a blob of ${BLOB / 1e6} MB by ${CLIENTS} clients, MB/s: median, least and most`,
    'MB/s',
    sides.map((side) => ({
      label: side.name,
      value: median(of(side, 'pull, eight')),
      least: Math.min(...of(side, 'pull, eight')),
      most: Math.max(...of(side, 'pull, eight')),
      isOurs: side.isOurs,
    })),
  )
  return { text, isFailed: checks.some(({ isKept }) => !isKept), plot: { title: `Pulling by ${CLIENTS} clients`, svg } }
}
