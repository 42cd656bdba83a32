import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { end, memory, resetPeak, run, start } from './processes.mjs'

const ROOT = join(import.meta.dirname, '../..')
const CLI = join(ROOT, 'node_modules/.bin/strata')

/** All services in one process, with a data folder that begins empty and ends with it. */
export class Strata {
  static async start(folder) {
    mkdirSync(folder, { recursive: true })
    const strata = new Strata()
    strata.data = mkdtempSync(join(folder, 'data-'))
    strata.socket = join(strata.data, 'strata.sock')
    strata.environment = { STRATA_DATA: strata.data, STRATA_SOCKET: strata.socket, STRATA_HOST: `unix://${strata.socket}`, STRATA_LOG_LEVEL: 'warn' }
    // As `strata up` starts it.
    strata.process = await start(join(ROOT, 'node_modules/.bin/node'), [join(ROOT, 'apps/standalone/dist/main.js')], {
      env: { ...strata.environment, MALLOC_ARENA_MAX: '1' },
      log: join(folder, 'strata.log'),
      isReady: () => spawnSync('curl', ['-sf', '--unix-socket', strata.socket, 'http://strata/v1/health/ready']).status === 0,
    })
    strata.idle = memory(strata.pid).now
    resetPeak(strata.pid)
    return strata
  }

  get pid() {
    return this.process.pid
  }

  /** `[program, args, env]` of each way in. */
  loadCommand(way, file) {
    return way === 'curl' ? ['curl', ['-sSf', '-o', '/dev/null', '-T', file, '--unix-socket', this.socket, 'http://strata/v1/images']] : [CLI, ['load', '-q', '-i', file], this.environment]
  }

  load(way, file) {
    run(...this.loadCommand(way, file))
  }

  /** The folder at which the image's root is mounted. */
  mount(image) {
    const answer = run('curl', ['-sSf', '-X', 'POST', '--unix-socket', this.socket, `http://strata/v1/images/${encodeURIComponent(image)}/mount`])
    const { path } = JSON.parse(answer)
    return path
  }

  unmount(image) {
    run('curl', ['-sSf', '-X', 'DELETE', '--unix-socket', this.socket, `http://strata/v1/images/${encodeURIComponent(image)}/mount`])
  }

  runCommand(image, command) {
    return [CLI, ['run', '--rm', image, ...command], this.environment]
  }

  peak() {
    return memory(this.pid).peak
  }

  async stop() {
    await end(this.process)
    spawnSync('sh', ['-c', 'grep -F " $1/" /proc/self/mountinfo | cut -d" " -f5 | sort -r | xargs -r umount -l', 'sh', this.data])
    rmSync(this.data, { recursive: true, force: true })
  }
}
