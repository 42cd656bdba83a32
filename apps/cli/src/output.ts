import { fstatSync, writeSync } from 'node:fs'
import { Writable } from 'node:stream'
import { CliError, reasonOf } from './errors.js'

/**
 * Node takes what write(2) has written of a piece for the whole piece if the output is a file. A
 * disk that is about to be full takes the beginning of one.
 */
class FileOutput extends Writable {
  constructor(private readonly fd: number) {
    super()
  }

  override _write(piece: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    try {
      for (let at = 0; at < piece.length;) at += writeSync(this.fd, piece, at)
      done()
    } catch (error) {
      done(error as Error)
    }
  }
}

/*
 * stdout and stderr, as every command writes them.
 *
 * - A reader that has left (`strata images | head -1`) is no error of a list.
 * - Everything else that cannot be written is: a list that a full disk has cut must not look whole.
 *   `main.ts` asks for it at the end of every command (`outputWritten`).
 */
export const stdout = outputOf(process.stdout)
export const stderr = outputOf(process.stderr)

let failure: NodeJS.ErrnoException | undefined
stdout.on('error', (error) => (failure ??= error))
// There is nobody left to tell.
stderr.on('error', () => undefined)

/** An output took no more. `isGone`: its reader has left. */
export class OutputError extends CliError {
  readonly isGone: boolean
  constructor(name: string, error: unknown) {
    const isGone = error instanceof Error && 'code' in error && error.code === 'EPIPE'
    super(isGone ? `nobody reads ${name} any more` : `cannot write to ${name}: ${reasonOf(error)}`, { cause: error })
    this.isGone = isGone
  }
}

/**
 * Waits until stdout has taken all that was written to it.
 * @throws OutputError if something of it is not there, and its reader is
 */
export async function outputWritten(): Promise<void> {
  await isRead()
}

/** The same. `false`: its reader has left, so that nobody needs more. */
export async function isRead(): Promise<boolean> {
  await new Promise<void>((resolve) => stdout.write('', () => resolve()))
  const error = failure && new OutputError('stdout', failure)
  if (error && !error.isGone) throw error
  return error === undefined
}

function outputOf(stream: NodeJS.WriteStream & { readonly fd: number }): Writable {
  const at = fstatSync(stream.fd)
  return at.isFile() || (at.isCharacterDevice() && !stream.isTTY) ? new FileOutput(stream.fd) : stream
}
