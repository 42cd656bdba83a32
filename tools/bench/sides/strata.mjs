import { randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { NODE_FLAGS, SERVICE_ENVIRONMENT, serviceMain } from '../../../apps/cli/dist/service.js'
import { ask, end, run, start } from '../processes.mjs'
import { memory } from '../peaks.mjs'
import { nodeOf } from '../workspace.mjs'
import { Minio } from './minio.mjs'

const ROOT = join(import.meta.dirname, '../../..')
const CLI = join(ROOT, 'node_modules/.bin/strata')

const SERVICES = ['gateway', 'ingest', 'extractor', 'storage', 'runtime']

/**
 * A Strata with a data folder that begins empty: all services in one process or each in its own,
 * the blobs in a folder or in a MinIO of its own.
 */
export class Strata {
  #children = []

  static async start(workspace, { onMinio = false, isSeparate = false } = {}) {
    const strata = new Strata()
    strata.workspace = workspace
    strata.data = workspace.part('strata')
    strata.socket = join(strata.data, 'strata.sock')
    strata.environment = { STRATA_HOST: `unix://${strata.socket}` }
    strata.minio = onMinio ? await Minio.start(workspace) : undefined
    strata.processes = await (isSeparate ? strata.#startEach() : strata.#startOne())
    strata.idle = Object.fromEntries(Object.entries(strata.processes).map(([name, pid]) => [name, memory(pid).now]))
    return strata
  }

  /** As `strata up` starts it. */
  async #startOne() {
    const environment = { STRATA_DATA: this.data, STRATA_SOCKET: this.socket }
    this.redis = join(this.data, 'redis/redis.sock')
    return {
      strata: await this.#startApp('standalone', environment, () => this.#answers(this.socket, '/v1/health/ready')),
    }
  }

  /** As `strata gateway`, `strata ingest`, … start them, on a Redis that stands beside them. */
  async #startEach() {
    this.redis = join(this.data, 'redis.sock')
    const redis = await start(
      'redis-server',
      ['--port', '0', '--unixsocket', this.redis, '--dir', this.data, '--save', '', '--maxmemory-policy', 'noeviction'],
      { log: join(this.data, 'redis.log'), isReady: () => ask('redis-cli', ['-s', this.redis, 'ping']) === 'PONG' },
    )
    this.#children.push(redis)
    const node = nodeOf(this.data)
    const secret = join(this.data, 'node-secret')
    writeFileSync(secret, randomBytes(32).toString('hex'), { mode: 0o600 })
    const environment = {
      STRATA_REDIS: `unix://${this.redis}`,
      STRATA_STORE: join(this.data, 'store'),
      STRATA_SOCKET: this.socket,
      STRATA_NODE: node,
      STRATA_NODE_FOLDER: join(this.data, 'node'),
      STRATA_RUN_FOLDER: join('/run/strata', node),
      STRATA_NODE_SECRET_FILE: secret,
    }
    const processes = {}
    // The gateway last: it is ready when the others can be reached.
    for (const service of [...SERVICES.slice(1), SERVICES[0]]) {
      const health = join(this.data, `${service}.sock`)
      const [socket, path] = service === 'gateway' ? [this.socket, '/v1/health/ready'] : [health, '/health/ready']
      processes[service] = await this.#startApp(
        service,
        { ...environment, ...(service !== 'gateway' && { STRATA_HEALTH: health }) },
        () => this.#answers(socket, path),
      )
    }
    return processes
  }

  /** With what the CLI gives a service. */
  async #startApp(app, environment, isReady) {
    const child = await start(join(ROOT, 'node_modules/.bin/node'), [...NODE_FLAGS, serviceMain(app)], {
      env: { STRATA_LOG_LEVEL: 'warn', ...SERVICE_ENVIRONMENT, ...environment, ...this.minio?.environment() },
      log: join(this.data, `${app}.log`),
      isReady,
    })
    this.#children.push(child)
    return child.pid
  }

  #answers(socket, path) {
    return ask('curl', ['-sf', '--unix-socket', socket, `http://strata${path}`]) !== undefined
  }

  get version() {
    return `Strata on Node.js ${process.versions.node}${this.minio ? ` and ${this.minio.version}` : ''}`
  }

  watch(peaks) {
    for (const [name, pid] of Object.entries(this.processes)) peaks.watch(pid, name)
    if (this.minio) peaks.watch(this.minio.process.pid, 'minio')
  }

  /** `[program, args, options]` of each way in. */
  loadCommand(way, file) {
    const curl = [
      'curl',
      ['-sSf', '-o', '/dev/null', '-T', file, '--unix-socket', this.socket, 'http://strata/v1/images'],
    ]
    const path = [CLI, ['load', '-q', file], { env: this.environment }]
    const pipe = ['sh', ['-c', 'cat "$1" | "$2" load -q', 'sh', file, CLI], { env: this.environment }]
    return { curl, path, pipe }[way]
  }

  async load(way, file, peaks) {
    const [program, args, options] = this.loadCommand(way, file)
    await run(program, args, { ...options, peaks })
  }

  async mount(image) {
    return JSON.parse(await this.request('POST', `/v1/images/${encodeURIComponent(image)}/mount`)).path
  }

  unmount(image) {
    return this.request('DELETE', `/v1/images/${encodeURIComponent(image)}/mount`)
  }

  request(method, path) {
    return run('curl', ['-sSf', '-X', method, '--unix-socket', this.socket, `http://strata${path}`])
  }

  /** The image goes, and with it all that a load makes. */
  async clear(image) {
    await this.request('DELETE', `/v1/images/${encodeURIComponent(image)}`)
    await this.request('POST', '/v1/gc')
    const { images, layers } = JSON.parse(await this.request('GET', '/v1/system/df'))
    if (images.bytes + layers.bytes > 0) throw new Error(`Strata kept something: ${JSON.stringify({ images, layers })}`)
  }

  saveCommand(file, image) {
    return [CLI, ['save', '-o', file, image], { env: this.environment }]
  }

  runCommand(image, command) {
    return [CLI, ['run', '--rm', image, ...command], { env: this.environment }]
  }

  async stop() {
    for (const child of this.#children.reverse()) await end(child)
    this.workspace.unmount(this.data)
    await this.minio?.stop()
  }
}

/** One way into a Strata, as a side of the `load` bench. */
export class StrataWay {
  constructor(strata, way, name, note) {
    Object.assign(this, { strata, way, name, note, isOurs: true, version: strata.version })
  }

  watch(peaks) {
    this.strata.watch(peaks)
  }

  load(file, peaks) {
    return this.strata.load(this.way, file, peaks)
  }

  mount(image) {
    return this.strata.mount(image)
  }

  async clear(image) {
    await this.strata.unmount(image)
    await this.strata.clear(image)
  }
}
