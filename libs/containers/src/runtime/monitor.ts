import { closeSync, constants, fstatSync, openSync, readSync, symlinkSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import type { Socket } from 'node:net'
import { basename, dirname, join } from 'node:path'
import { mkfifo, reap } from '@strata/linux'
import { asStrataError, StrataError } from '@strata/base'
import { z } from 'zod'
import { readPipe } from './pipe.js'
import { CHILD_ENV, spawnProgram } from './program.js'
import { createError } from './runc.js'
import type { RuntimeDriver } from './runtime-driver.js'

const syncSchema = z.object({ data: z.number().int(), message: z.string().optional() })
const MAX_LINE = 64 * 1024
/**
 * A link in the bundle to the log's folder. conmon ends a log's path at a colon, and GLib refuses
 * arguments that are no text of its locale; of our folders only the run folder has neither
 * (`STRATA_RUN_FOLDER`).
 */
const OUTPUT = 'output'

export interface MonitorRequest {
  readonly conmon: string
  readonly driver: RuntimeDriver
  readonly id: string
  readonly bundle: string
  /** The log's path (k8s-file). */
  readonly log: string
}

/**
 * One conmon: it holds a container's stdio, writes its log, and its exit code as text to
 * `<bundle>/exit`. It outlives us.
 *
 * We hold on to it by a FIFO in the bundle, which conmon has open in both directions as its sync
 * pipe: it can never get EPIPE, a service that was started anew still reads from it what the last
 * one had not read, and its end means that conmon has ended, the exit file written before.
 */
export class Monitor {
  /** conmon has ended. Never rejects. */
  readonly ended: Promise<void>
  readonly #socket: Socket
  readonly #created = Promise.withResolvers<number>()
  #line = ''

  private constructor(
    fd: number,
    first: string,
    readonly pid: number | undefined,
    failure: () => Promise<StrataError>,
  ) {
    const ended = Promise.withResolvers<undefined>()
    this.ended = ended.promise
    this.#created.promise.catch(() => undefined)
    this.#socket = readPipe(fd)
    this.#socket.on('data', (chunk: Buffer) => this.#read(chunk.toString('utf8')))
    this.#socket.on('error', () => this.#socket.destroy())
    this.#socket.on('end', () => {
      void failure().then((error) => this.#created.reject(error))
      ended.resolve(undefined)
    })
    this.#read(first)
  }

  /**
   * Starts conmon, which has the runtime create the container. Only whoever has made sure that no
   * other conmon has this bundle may call it.
   */
  static spawn(request: MonitorRequest): Monitor {
    const { bundle, id, driver } = request
    const sync = join(bundle, 'sync')
    mkfifo(sync, 0o600)
    symlinkSync(dirname(request.log), join(bundle, OUTPUT))
    const theirs = openSync(sync, constants.O_RDWR)
    const errors = openSync(join(bundle, 'conmon.err'), 'w', 0o600)
    try {
      // While `theirs` is open there is a writer: so the end that we see is conmon's.
      const ours = openSync(sync, constants.O_RDONLY | constants.O_NONBLOCK)
      let pid: number
      try {
        pid = spawnProgram({
          file: request.conmon,
          argv: [
            'conmon',
            '--api-version',
            '1',
            '--sync',
            '--cid',
            id,
            '--cuuid',
            id,
            '--name',
            id.slice(0, 12),
            '--bundle',
            bundle,
            '--persist-dir',
            bundle,
            '--runtime',
            driver.path,
            ...driver.globalArgs.flatMap((arg) => ['--runtime-arg', arg]),
            '--container-pidfile',
            join(bundle, 'pidfile'),
            '--log-path',
            `k8s-file:${join(bundle, OUTPUT, basename(request.log))}`,
            '--no-sync-log',
            '--full-attach',
            '--log-level',
            'warning',
          ],
          env: { ...CHILD_ENV, _OCI_SYNCPIPE: '3' },
          cwd: bundle,
          stdio: [null, null, errors, theirs],
          newSession: true,
          survivesFileLimit: true,
        })
      } catch (error) {
        closeSync(ours)
        throw error
      }
      const monitor = new Monitor(ours, '', pid, async () =>
        createError(await readFile(join(bundle, 'conmon.err'), 'utf8').catch(() => '')),
      )
      void monitor.ended.then(() => reap(pid))
      return monitor
    } finally {
      closeSync(theirs)
      closeSync(errors)
    }
  }

  /**
   * The conmon that an earlier process of ours started for this bundle; `undefined` if none lives.
   */
  static adopt(bundle: string): Monitor | undefined {
    let fd: number
    try {
      fd = openSync(join(bundle, 'sync'), constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW)
    } catch (error) {
      if (error instanceof Error && 'code' in error && ['ENOENT', 'ENOTDIR', 'ELOOP'].includes(String(error.code)))
        return undefined
      throw error
    }
    // Whatever else lies there, no conmon has it open.
    if (!fstatSync(fd).isFIFO()) {
      closeSync(fd)
      return undefined
    }
    const first = Buffer.alloc(MAX_LINE)
    let length = 0
    try {
      length = readSync(fd, first)
      if (length === 0) {
        // No writer: nobody has it open. (epoll would not tell: a FIFO that had no writer when it
        // was opened gives no hang-up.)
        closeSync(fd)
        return undefined
      }
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'EAGAIN')) {
        closeSync(fd)
        throw error
      }
    }
    return new Monitor(fd, first.toString('utf8', 0, length), undefined, () =>
      Promise.resolve(new StrataError('launch_failed', 'the monitor ended before the container was created')),
    )
  }

  /**
   * The pid of the created container's process, once there is one; rejects with why it could not be
   * created. Of an adopted one it may have been read before.
   */
  get created(): Promise<number> {
    return this.#created.promise
  }

  /** Lets go without ending it. */
  release(): void {
    this.#socket.destroy()
  }

  #read(text: string): void {
    if (this.#line.length < MAX_LINE) this.#line += text
    const end = this.#line.indexOf('\n')
    if (end < 0) return
    try {
      const { data, message } = syncSchema.parse(JSON.parse(this.#line.slice(0, end)))
      if (data > 0) this.#created.resolve(data)
      else this.#created.reject(createError(message ?? ''))
    } catch (error) {
      this.#created.reject(asStrataError(error))
    }
  }
}

/**
 * The exit code that conmon wrote (128 + signal where killed), or `undefined` if it has not. 255
 * where what lies there is no code.
 */
export async function readExit(bundle: string): Promise<number | undefined> {
  try {
    const code = Number((await readFile(join(bundle, 'exit'), 'latin1')).trim() || NaN)
    // conmon knows -1 where it does not know.
    return Number.isInteger(code) && code >= 0 && code <= 255 ? code : 255
  } catch (error) {
    if (!(error instanceof Error && 'code' in error)) throw error
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined
    if (error.code === 'EISDIR' || error.code === 'ELOOP') return 255
    throw error
  }
}
