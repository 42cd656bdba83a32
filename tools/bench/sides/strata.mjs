import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { ask, end, run, start } from '../processes.mjs'
import { memory } from '../peaks.mjs'
import { Minio } from './minio.mjs'

const ROOT = join(import.meta.dirname, '../../..')
const CLI = join(ROOT, 'node_modules/.bin/strata')

/** All services in one process, with a data folder that begins empty; its blobs in a folder, or in a MinIO of its own. */
export class Strata {
  static async start(workspace, { onMinio = false } = {}) {
    const strata = new Strata()
    strata.workspace = workspace
    strata.minio = onMinio ? await Minio.start(workspace) : undefined
    await strata.#up()
    return strata
  }

  async #up() {
    this.data = this.workspace.part('strata')
    this.socket = join(this.data, 'strata.sock')
    this.environment = { STRATA_HOST: `unix://${this.socket}` }
    // As `strata up` starts it.
    this.process = await start(join(ROOT, 'node_modules/.bin/node'), [join(ROOT, 'apps/standalone/dist/main.js')], {
      env: { STRATA_DATA: this.data, STRATA_SOCKET: this.socket, STRATA_LOG_LEVEL: 'warn', MALLOC_ARENA_MAX: '1', ...this.minio?.environment() },
      log: join(this.workspace.folder, 'strata.log'),
      isReady: () => ask('curl', ['-sf', '--unix-socket', this.socket, 'http://strata/v1/health/ready']) !== undefined,
    })
    this.idle = memory(this.process.pid).now
  }

  get version() {
    return `Strata on Node.js ${process.versions.node}${this.minio ? ` and ${this.minio.version}` : ''}`
  }

  watch(peaks) {
    peaks.watch(this.process.pid, 'strata')
    if (this.minio) peaks.watch(this.minio.process.pid, 'minio')
  }

  /** `[program, args, options]` of each way in. */
  loadCommand(way, file) {
    const curl = ['curl', ['-sSf', '-o', '/dev/null', '-T', file, '--unix-socket', this.socket, 'http://strata/v1/images']]
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

  /** Nothing is there any more: a service that has run, on empty folders. */
  async clear() {
    await this.#down()
    await this.minio?.fresh()
    await this.#up()
  }

  runCommand(image, command) {
    return [CLI, ['run', '--rm', image, ...command], { env: this.environment }]
  }

  async #down() {
    if (this.process) await end(this.process)
    this.workspace.unmount(this.data)
    rmSync(this.data, { recursive: true, force: true })
  }

  async stop() {
    await this.#down()
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
    await this.strata.clear()
  }
}
