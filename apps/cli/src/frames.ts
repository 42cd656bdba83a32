import type { Writable } from 'node:stream'
import { CliError } from './errors.js'
import { OutputError } from './output.js'

const HEADER = 8
type Emit = (stream: 1 | 2, piece: Buffer) => void

/**
 * docker's stream format (Engine API, "Attach to a container", stream format): byte 0 is the stream
 * (1 stdout, 2 stderr), bytes 4–7 the payload's length, big-endian. Frames may be cut anywhere:
 * payload is passed on in the pieces it comes in, never gathered.
 */
export class FrameReader {
  readonly #header = Buffer.alloc(HEADER)
  #held = 0
  #left = 0
  #stream: 1 | 2 = 1

  push(chunk: Buffer, emit: Emit): void {
    let at = 0
    while (at < chunk.length) {
      if (this.#left === 0) {
        const taken = chunk.copy(this.#header, this.#held, at, at + HEADER - this.#held)
        at += taken
        this.#held += taken
        if (this.#held < HEADER) return
        this.#held = 0
        const stream = this.#header[0]
        if (stream !== 1 && stream !== 2) throw new CliError('the service sent output that is not in frames')
        this.#stream = stream
        this.#left = this.#header.readUInt32BE(4)
      } else {
        const piece = chunk.subarray(at, at + this.#left)
        at += piece.length
        this.#left -= piece.length
        emit(this.#stream, piece)
      }
    }
  }

  /** Throws if the stream ended inside a frame: output must not be shortened in silence. */
  end(): void {
    if (this.#held > 0 || this.#left > 0) throw new CliError("the container's output was cut in the middle")
  }
}

/**
 * Writes a framed stream to two outputs, reading on only when both took what they got: a reader
 * that pauses holds the container's output back, and loses nothing.
 * @throws OutputError if one of them takes no more
 */
export async function demultiplex(source: AsyncIterable<Buffer>, stdout: Writable, stderr: Writable): Promise<void> {
  const frames = new FrameReader()
  const outputs = { 1: new Output('stdout', stdout), 2: new Output('stderr', stderr) }
  try {
    for await (const chunk of source) {
      stdout.cork()
      stderr.cork()
      try {
        frames.push(chunk, (stream, piece) => outputs[stream].write(piece))
      } finally {
        stdout.uncork()
        stderr.uncork()
      }
      await outputs[1].ready()
      await outputs[2].ready()
    }
    frames.end()
    await outputs[1].flushed()
    await outputs[2].flushed()
  } finally {
    outputs[1].release()
    outputs[2].release()
  }
}

/**
 * One output with its backpressure as a promise. Its error is kept until asked for: streams report
 * it when nobody waits.
 */
class Output {
  #full = false
  #error: OutputError | undefined
  #wake: (() => void) | undefined
  readonly #onDrain = () => {
    this.#full = false
    this.#wake?.()
  }
  readonly #onError = (error: Error) => {
    this.#error ??= new OutputError(this.name, error)
    this.#wake?.()
  }

  constructor(
    readonly name: string,
    readonly stream: Writable,
  ) {
    stream.on('drain', this.#onDrain)
    stream.on('error', this.#onError)
  }

  write(piece: Buffer): void {
    if (!this.stream.write(piece)) this.#full = true
  }

  async ready(): Promise<void> {
    while (this.#full && !this.#error) await new Promise<void>((resolve) => (this.#wake = resolve))
    if (this.#error) throw this.#error
  }

  async flushed(): Promise<void> {
    await this.ready()
    await new Promise<void>((resolve) => {
      this.#wake = resolve
      this.stream.write('', () => resolve())
    })
    if (this.#error) throw this.#error
  }

  release(): void {
    this.stream.off('drain', this.#onDrain)
    // The error's listener stays: a late EPIPE of a process that is ending is no crash.
  }
}
