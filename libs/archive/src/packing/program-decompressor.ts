import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process'
import { Duplex } from 'node:stream'
import { StrataError } from '@strata/base'
import { CHUNK, RATIO_FREE, tooLarge } from './compression.js'

export type ProgramCompression = 'bzip2' | 'xz'

/**
 * Every dictionary that xz's presets make (64 MiB with -9), and twice that. bzip2 never takes more
 * than 4 MiB.
 */
const MEMORY = 160 * 1024 * 1024
const COMMANDS: Readonly<Record<ProgramCompression, readonly string[]>> = {
  bzip2: ['--decompress', '--stdout'],
  xz: ['--decompress', '--stdout', '--threads=1', '--no-sparse', `--memlimit-decompress=${MEMORY}`],
}
const MOST_SAID = 4096

/** Unpacks by the system's own program, in a process of its own, which ends with this stream. */
export class ProgramDecompressor extends Duplex {
  readonly #program: ChildProcessWithoutNullStreams
  #said = ''
  #bytesIn = 0
  #bytesOut = 0
  #finished: ((error?: Error) => void) | undefined

  constructor(
    private readonly compression: ProgramCompression,
    private readonly maxRatio: number,
  ) {
    super({ readableHighWaterMark: CHUNK, writableHighWaterMark: CHUNK })
    // No other variable: both programs take options from some.
    this.#program = spawn(compression, COMMANDS[compression], {
      env: { PATH: process.env['PATH'], LC_ALL: 'C' },
      stdio: 'pipe',
    })
    const { stdin, stdout, stderr } = this.#program
    // A program that ends early says why by its end.
    stdin.on('error', () => undefined)
    stdout.on('data', (piece: Buffer) => this.#unpacked(piece))
    stderr.on('data', (piece: Buffer) => {
      if (this.#said.length < MOST_SAID) this.#said += piece.toString('latin1')
    })
    this.#program.on('error', (error: NodeJS.ErrnoException) =>
      this.destroy(error.code === 'ENOENT' ? missing(compression) : error),
    )
    this.#program.on('close', (code, signal) => this.#ended(code, signal))
  }

  override _write(piece: Buffer, _encoding: BufferEncoding, done: (error?: Error) => void): void {
    this.#bytesIn += piece.length
    this.#program.stdin.write(piece, () => done())
  }

  override _final(done: (error?: Error) => void): void {
    this.#finished = done
    this.#program.stdin.end()
  }

  override _read(): void {
    this.#program.stdout.resume()
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#program.kill('SIGKILL')
    done(error)
  }

  #unpacked(piece: Buffer): void {
    this.#bytesOut += piece.length
    if (this.#bytesOut > RATIO_FREE && this.#bytesOut > this.#bytesIn * this.maxRatio)
      this.destroy(tooLarge('archive', this.maxRatio))
    else if (!this.push(piece)) this.#program.stdout.pause()
  }

  #ended(code: number | null, signal: NodeJS.Signals | null): void {
    if (this.destroyed) return
    // bzip2 only warns of what follows its last stream, and has read all of it.
    if (code !== 0 || this.#finished === undefined || this.#said !== '')
      return void this.destroy(this.#fault(code, signal))
    this.push(null)
    this.#finished()
  }

  #fault(code: number | null, signal: NodeJS.Signals | null): StrataError {
    const what = `the archive's ${this.compression} stream`
    if (/memory usage limit/i.test(this.#said))
      return new StrataError('limit_exceeded', `${what} needs more than ${MEMORY} bytes of memory to unpack`)
    if (/unexpected end of (?:input|file)|file ends unexpectedly/i.test(this.#said))
      return new StrataError('archive_truncated', `${what} is cut short`)
    const said = /[^\n:]*$/.exec(this.#said.trim())?.[0].trim() ?? ''
    return new StrataError(
      'archive_invalid',
      `${what} is damaged: ${said || (signal ?? `${this.compression} ended with ${code}`)}`,
    )
  }
}

function missing(compression: ProgramCompression): StrataError {
  const name = compression === 'xz' ? 'xz-utils' : compression
  return new StrataError(
    'unsupported',
    `the archive is packed by ${compression}, and this machine has no ${compression} to unpack it: install ${name}, or send it unpacked`,
  )
}
