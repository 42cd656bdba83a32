import { randomBytes } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { join } from 'node:path'
import { digestOf, MEDIA } from '@strata/oci'
import { Contents, descriptorOf, documentOf } from '../full-store/contents.mjs'
import { fillStore } from '../full-store/fill.mjs'
import { memory, Peaks } from '../peaks.mjs'
import { run, throwIfInterrupted } from '../processes.mjs'
import { median, table } from '../report.mjs'
import { Minio } from '../sides/minio.mjs'
import { strataRegistry } from '../sides/registries.mjs'

/**
 * What an empty store has, so that there is a page of everything, and another manifest and another
 * layer in each round.
 */
const FEW = { repositories: 250, tags: 2_500 }
const PAGE = 100
const REFERRERS = 20
/** Of the p50 in the empty store. */
const BAR = 1.5
const WARM_UP = 20
const MANY = '/v2/bench/many'

/**
 * Each request of the registry and of /v1, in a store that has next to nothing and in one with
 * `count` repositories, `count` tags in one more, and ten times as many blobs; then a collection in
 * each. The two stores have services of their own, and take turns.
 */
export async function benchFlat({ workspace, rounds = 200, count, onMinio = false }) {
  if (onMinio && Minio.absent()) throw new Error(Minio.absent())
  const size = count ?? (onMinio ? 10_000 : 100_000)
  const sides = []
  for (const [name, sizes] of [
    ['empty', FEW],
    ['full', { repositories: size, tags: size }],
  ])
    sides.push(await Side.start(workspace, name, new Contents(sizes), onMinio))
  // What was written goes to the disk now, and not while requests are measured.
  await run('sync', ['-f', workspace.folder])
  for (const side of sides) await side.first()
  for (let round = -WARM_UP; round < rounds; round++)
    for (const side of round % 2 === 0 ? sides : sides.toReversed()) {
      throwIfInterrupted()
      await oneRound(side, round, (round + WARM_UP) / (rounds + WARM_UP))
    }
  for (const { name, ratio, ofProcessor } of rowsOf(sides))
    process.stderr.write(`${name}: ${ratio.toFixed(2)}, ${ofProcessor.toFixed(2)} of the processor\n`)
  for (const side of sides) await side.collect()
  for (const side of sides) await side.stop()
  return result(sides, { rounds, size, onMinio })
}

/** A store of its own, with a gateway and a storage service. */
class Side {
  #agent = new Agent({ keepAlive: true, maxSockets: 1 })
  times = new Map()
  pushed = 0
  isCounted = false

  static async start(workspace, name, contents, onMinio) {
    const side = new Side()
    const minio = onMinio ? await Minio.start(workspace) : undefined
    const store = minio?.environment() ?? { STRATA_STORE: join(workspace.part(`${name}-store`), 'store') }
    const since = performance.now()
    await fillStore(store, contents)
    const seconds = (performance.now() - since) / 1000
    process.stderr.write(`${name}: ${contents.blobs} blobs in ${seconds.toFixed(0)} s\n`)
    const registry = await strataRegistry(workspace, undefined, {
      names: ['gateway'],
      // No node is there that would extract layers.
      own: { ...store, STRATA_GC_INTERVAL: '0', STRATA_INDEX_ON_PUSH: 'false' },
    })
    const { version } = registry
    return Object.assign(side, { name, contents, store, minio, registry, seconds, version })
  }

  /** What the first list of a large folder costs a process, and the next one. */
  async first() {
    this.firsts = {}
    for (const [list, path] of Object.entries({
      tags: `${MANY}/tags/list?n=${PAGE}`,
      catalog: `/v2/_catalog?n=${PAGE}`,
      images: `/v1/images?limit=${PAGE}`,
    })) {
      const times = []
      for (let time = 0; time < 2; time++) {
        const since = performance.now()
        await this.ask('GET', path)
        times.push(performance.now() - since)
      }
      this.firsts[list] = times
    }
  }

  async collect() {
    const peaks = new Peaks()
    const { storage } = this.registry
    const before = memory(storage).now
    peaks.watch(storage, 'storage')
    const since = performance.now()
    const { body } = await this.ask('POST', '/v1/gc', { expected: 200 })
    const seconds = (performance.now() - since) / 1000
    const { storage: peak } = peaks.end()
    const report = JSON.parse(body)
    // All that was filled in is as the services write it, and needed. Manifests that were pushed
    // and deleted go.
    const { blobs, data } = report.store
    if (blobs.count > this.pushed || data.count + report.unreadable.count > 0)
      throw new Error(`the collection of the ${this.name} store found something: ${body}`)
    this.collection = { seconds, before, peak, after: memory(storage).now }
    process.stderr.write(`${this.name}: ${JSON.stringify(this.collection)}\n`)
  }

  async stop() {
    this.gateway = memory(this.registry.gateways[0].pid)
    this.#agent.destroy()
    await this.registry.stop()
    await this.minio?.stop()
    if (!this.minio) await run('rm', ['-rf', this.store.STRATA_STORE])
  }

  /** The answer, whole. An error if its status is not as expected. */
  async ask(method, path, { headers = {}, body, expected = 200 } = {}) {
    const { status, ...answer } = await new Promise((resolve, reject) => {
      const sent = request({
        agent: this.#agent,
        socketPath: this.registry.gateways[0].socket,
        method,
        path,
        headers: { ...headers, 'content-length': body?.length ?? 0 },
      })
      sent.once('error', reject).once('response', (response) => {
        const parts = []
        response
          .on('data', (part) => parts.push(part))
          .once('error', reject)
          .once('end', () =>
            resolve({ status: response.statusCode, headers: response.headers, body: Buffer.concat(parts).toString() }),
          )
      })
      sent.end(body)
    })
    if (status === expected) return answer
    throw new Error(`${this.name}: ${method} ${path}: ${status}, not ${expected}: ${answer.body.slice(0, 500)}`)
  }

  /** The same, and how long it took. */
  async timed(name, ...call) {
    const [{ pid }] = this.registry.gateways
    const processor = processorMs(pid)
    const since = performance.now()
    const answer = await this.ask(...call)
    const ms = performance.now() - since
    if (!this.isCounted) return answer
    if (!this.times.has(name)) this.times.set(name, { ms: [], processor: [] })
    this.times.get(name).ms.push(ms)
    this.times.get(name).processor.push(processorMs(pid) - processor)
    return answer
  }
}

/** `part` of all rounds are over. */
async function oneRound(side, round, part) {
  side.isCounted = round >= 0
  await pull(side, part)
  await push(side, `${round + WARM_UP}`, part)
  await lists(side)
}

const any = (count) => Math.floor(Math.random() * count)
const type = { 'content-type': MEDIA.manifest }
const BYTES = { 'content-type': 'application/octet-stream' }

async function pull(side, part) {
  const { contents } = side
  // Other ones in each round: what was read before is in the gateway's memory.
  const tag = Math.floor(part * contents.referrers) * (contents.tags / contents.referrers)
  const { manifest } = contents.ofTag(tag)
  const other = contents.ofRepository(Math.floor(part * contents.repositories))
  const accept = { headers: { accept: MEDIA.manifest } }
  await side.timed('`GET /v2/`', 'GET', '/v2/')
  await side.timed('manifest by tag', 'GET', `${MANY}/manifests/${contents.nameOfTag(tag)}`, accept)
  await side.timed('manifest by tag, repository of one', 'GET', `/v2/${pathOf(other)}/manifests/latest`, accept)
  await side.timed('manifest by digest, just read', 'GET', `${MANY}/manifests/${manifest.digest}`, accept)
  await side.timed('`HEAD` of a manifest', 'HEAD', `${MANY}/manifests/${contents.nameOfTag(tag)}`, accept)
  // Who asks for a blob's head first makes a hold.
  const blob = `/v2/${pathOf(other)}/blobs/${other.layers[0].digest}`
  await side.timed('`HEAD` of a blob, the first', 'HEAD', blob)
  await side.timed('`HEAD` of a blob, again', 'HEAD', blob)
  const layer = `/v2/${pathOf(other)}/blobs/${other.layers[1].digest}`
  await side.timed('blob of 1 KiB', 'GET', layer)
  await side.timed('100 bytes of a blob', 'GET', layer, { headers: { range: 'bytes=100-199' }, expected: 206 })
}

/** A new image into the repository with many tags, and out again. */
async function push(side, id, part) {
  const { contents } = side
  const uploads = `${MANY}/blobs/uploads/`
  const begin = async () => (await side.timed('upload: begin', 'POST', uploads, { expected: 202 })).headers.location
  const layer = { bytes: randomBytes(1000), mediaType: MEDIA.layer }
  layer.digest = digestOf(layer.bytes)
  // Another one in each round, that no other request names: one that is held takes no write.
  const mounted = contents.ofRepository(Math.floor(part * contents.repositories))
  const layers = [layer, mounted.layers[2]]
  const config = documentOf(
    {
      architecture: 'amd64',
      os: 'linux',
      author: randomBytes(16).toString('hex'),
      rootfs: { type: 'layers', diff_ids: layers.map(({ digest }) => digest) },
    },
    MEDIA.config,
  )
  await side.timed('upload: the whole in one `PUT`', 'PUT', `${await begin()}?digest=${config.digest}`, {
    headers: BYTES,
    body: config.bytes,
    expected: 201,
  })
  const upload = await begin()
  for (const [from, to] of [
    [0, 500],
    [500, 1000],
  ])
    await side.timed('upload: a chunk', 'PATCH', upload, {
      headers: { ...BYTES, 'content-range': `${from}-${to - 1}` },
      body: layer.bytes.subarray(from, to),
      expected: 202,
    })
  await side.timed('upload: status', 'GET', upload, { expected: 204 })
  await side.timed('upload: finish', 'PUT', `${upload}?digest=${layer.digest}`, { expected: 201 })
  await side.timed('upload: cancel', 'DELETE', await begin(), { expected: 204 })
  const mount = `${uploads}?mount=${layers[1].digest}&from=${pathOf(mounted)}`
  await side.timed('mount', 'POST', mount, { expected: 201 })
  const manifest = documentOf(
    { schemaVersion: 2, mediaType: MEDIA.manifest, config: descriptorOf(config), layers: layers.map(descriptorOf) },
    MEDIA.manifest,
  )
  side.pushed++
  const put = (name, tag, { bytes }) =>
    side.timed(name, 'PUT', `${MANY}/manifests/${tag}`, { headers: type, body: bytes, expected: 201 })
  await put('manifest: a new one', `new-${id}`, manifest)
  await put('manifest: one more tag', `more-${id}`, contents.ofTag(any(contents.tags)).manifest)
  await side.timed('delete of a tag', 'DELETE', `${MANY}/manifests/more-${id}`, { expected: 202 })
  const image = (name) => `/v1/images/${encodeURIComponent(name)}`
  await side.timed('`/v1`: tag', 'POST', `${image(`bench/many:new-${id}`)}/tag`, {
    headers: { 'content-type': 'application/json' },
    body: Buffer.from(JSON.stringify({ name: `bench/many:also-${id}` })),
    expected: 201,
  })
  await side.timed('`/v1`: `rmi` of one of two tags', 'DELETE', image(`bench/many:also-${id}`))
  // No node is there that would say whether a container uses it.
  await side.timed('`/v1`: `rmi` of an image', 'DELETE', `${image(`bench/many:new-${id}`)}?force=true`)
  await put('manifest: a new one', `new-${id}`, manifest)
  await side.timed('delete of a manifest', 'DELETE', `${MANY}/manifests/${manifest.digest}`, { expected: 202 })
}

async function lists(side) {
  const { contents } = side
  const [first, last] = [`n=${PAGE}`, (name) => `n=${PAGE}&last=${encodeURIComponent(name)}`]
  const middle = contents.nameOfTag(any(contents.tags - 2 * PAGE))
  const end = contents.nameOfTag(contents.tags - PAGE - 1)
  const repository = contents.ofRepository(any(contents.repositories - 2 * PAGE))
  const page = async (name, path, count) => {
    const { body } = await side.timed(name, 'GET', path)
    const found = Object.values(JSON.parse(body)).find(Array.isArray).length
    if (found !== count) throw new Error(`${side.name}: ${path}: ${found} entries, not ${count}`)
  }
  await page('tags, first page', `${MANY}/tags/list?${first}`, PAGE)
  await page('tags, a page in the middle', `${MANY}/tags/list?${last(middle)}`, PAGE)
  await page('tags, last page', `${MANY}/tags/list?${last(end)}`, PAGE)
  await page('catalog, first page', `/v2/_catalog?${first}`, PAGE)
  await page('catalog, a page in the middle', `/v2/_catalog?${last(pathOf(repository))}`, PAGE)
  const { digest } = contents.subject.manifest
  await page(`${REFERRERS} referrers`, `${MANY}/referrers/${digest}?n=${REFERRERS}`, REFERRERS)
  const [limit, after] = [`limit=${PAGE}`, (name) => `limit=${PAGE}&after=${encodeURIComponent(name)}`]
  await page('`/v1`: repositories', `/v1/repositories?${after(pathOf(repository))}`, PAGE)
  await page('`/v1`: tags', `/v1/repositories/bench%2Fmany/tags?${after(middle)}`, PAGE)
  await page('`/v1`: images, first page', `/v1/images?${limit}`, PAGE)
  // In the first half of all.
  const behind = `sha256:${any(128).toString(16).padStart(2, '0')}${'0'.repeat(62)}`
  await page('`/v1`: images, a page in the middle', `/v1/images?${after(behind)}`, PAGE)
  const { config } = repository
  await side.timed('`/v1`: inspect', 'GET', `/v1/images/${encodeURIComponent(`${pathOf(repository)}:latest`)}`)
  await side.timed('`/v1`: inspect by id', 'GET', `/v1/images/${encodeURIComponent(config.digest)}`)
  await side.timed('`/v1`: inspect by the beginning of an id', 'GET', `/v1/images/${config.digest.slice(7, 23)}`)
}

/** What all threads of a process have used of the processors. */
function processorMs(pid) {
  const folder = `/proc/${pid}/task`
  return readdirSync(folder).reduce((sum, thread) => {
    const text = readFileSync(`${folder}/${thread}/schedstat`, 'utf8')
    return sum + Number(text.split(' ')[0]) / 1e6
  }, 0)
}

/** A repository is known by its name without docker.io. */
function pathOf({ repository }) {
  return repository.replace(/^docker\.io\//, '')
}

function rowsOf([empty, full]) {
  return [...full.times].map(([name, times]) => {
    const before = empty.times.get(name)
    const [ratio, ofProcessor] = ['ms', 'processor'].map((what) => median(times[what]) / median(before[what]))
    return { name, before, times, ratio, ofProcessor, isKept: ratio <= BAR }
  })
}

function result([empty, full], { rounds, size, onMinio }) {
  const ms = (value) => value.toFixed(value < 10 ? 2 : 0)
  const at = (times, part) =>
    times.toSorted((a, b) => a - b)[Math.min(times.length - 1, Math.floor(times.length * part))]
  const rows = rowsOf([empty, full])
  const worst = Math.max(...rows.map(({ ratio }) => ratio))
  const number = (value) => value.toLocaleString('en')
  const { collection: few } = empty
  const { collection: many } = full
  const text = [
    `${number(size)} repositories, ${number(full.contents.tags)} tags in one more, ${number(full.contents.blobs)} blobs, beside a store with ${FEW.repositories} and ${FEW.tags} (${number(empty.contents.blobs)} blobs), so that there is a page of everything. Blobs in ${onMinio ? `${full.minio.version}, one for each store` : 'a folder'}; one gateway and a storage service for each store; one client, a request at a time over the unix socket, ${rounds} rounds after ${WARM_UP}, in turns; pages of ${PAGE}. ms, to the last byte of the answer; processor time is the gateway’s. ${full.version}.`,
    '',
    table(
      ['', 'empty: p50', 'p99', 'full: p50', 'p99', 'full / empty, p50', 'the same of processor time', ''],
      rows.map(({ name, before, times, ratio, ofProcessor, isKept }) => [
        name,
        ms(at(before.ms, 0.5)),
        ms(at(before.ms, 0.99)),
        ms(at(times.ms, 0.5)),
        ms(at(times.ms, 0.99)),
        ratio.toFixed(2),
        ofProcessor.toFixed(2),
        isKept ? '' : '**missed**',
      ]),
    ),
    '',
    `The slowest is ${worst.toFixed(2)} × that of the empty store; the bar is ${BAR}: **${worst <= BAR ? 'kept' : 'missed'}**.`,
    '',
    `The first and the second list of a gateway that has just started, ms: ${Object.entries(full.firsts)
      .map(
        ([list, [first, second]]) =>
          `${list} ${ms(first)} and ${ms(second)} (empty: ${empty.firsts[list].map(ms).join(' and ')})`,
      )
      .join('; ')}.`,
    '',
    table(
      ['a collection', 's', 'storage service, MiB: before', 'peak', 'after'],
      [
        ['empty', few],
        ['full', many],
      ].map(([name, { seconds, before, peak, after }]) => [
        name,
        seconds.toFixed(1),
        ...[before, peak, after].map((value) => value.toFixed(0)),
      ]),
    ),
    '',
    `The gateway of the full store takes ${full.gateway.now.toFixed(0)} MiB at the end, ${full.gateway.peak.toFixed(0)} at most; that of the empty one ${empty.gateway.now.toFixed(0)} and ${empty.gateway.peak.toFixed(0)}. The full store was written in ${full.seconds.toFixed(0)} s${onMinio ? '' : ', as files, without the services; files with the same bytes are links'}.`,
  ].join('\n')
  return { text, isFailed: worst > BAR }
}
