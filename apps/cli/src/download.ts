import { randomBytes } from 'node:crypto'
import {
  constants,
  createWriteStream,
  fchmodSync,
  fchownSync,
  fstatSync,
  lstatSync,
  openSync,
  realpathSync,
  rmSync,
  statSync,
  type BigIntStats,
} from 'node:fs'
import { rename } from 'node:fs/promises'
import type { IncomingMessage } from 'node:http'
import { dirname } from 'node:path'
import type { Writable } from 'node:stream'
import { finished } from 'node:stream/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Client } from './client.js'
import { CliError, reasonOf, UnreachableError } from './errors.js'
import { OutputError, stdout } from './output.js'
import { exitCodeOf, onSignals } from './signals.js'
import { utf8Path } from './utf8-path.js'

/** How often a download that broke goes on where it was, without progress in between. */
const TRIES = 6
/** The pause before it goes on; each one without progress is twice as long. */
const PAUSE_MS = 100
/**
 * Fewer bytes are no progress: a server that breaks behind each byte would be asked a billion
 * times.
 */
const PROGRESS = 1024 * 1024

/** The body of `path` into a file, or to stdout. */
export async function download(client: Client, path: string, file: string | undefined): Promise<void> {
  const write = (to: Writable): Promise<void> => fetchWhole(client, path, to)
  try {
    if (file === undefined) await write(stdout)
    else await toPath(utf8Path(file), write)
  } catch (error) {
    if (error instanceof CliError) throw error
    throw file === undefined ? new OutputError('stdout', error) : new CliError(`${file}: ${reasonOf(error)}`)
  }
}

/**
 * Writes to what a path leads to, and replaces nothing but a regular file: links are followed, a
 * pipe gets the bytes, and a device is refused, as docker refuses it: as root, `-o /dev/sda` would
 * be a disk.
 *
 * Others may write the folder, `/tmp` say, and exchange what is there at any moment. So each
 * further look at the path must find the file of the first one, and what others laid there gets
 * nothing that a new file would not give: see `toFile`; a pipe of theirs is refused.
 */
async function toPath(path: string, write: (to: Writable) => Promise<void>): Promise<void> {
  const there = statSync(path, { throwIfNoEntry: false, bigint: true })
  if (there?.isDirectory()) throw new CliError(`invalid output path: ${JSON.stringify(path)} is a directory`)
  if (there?.isCharacterDevice() || there?.isBlockDevice())
    throw new CliError(
      `invalid output path: ${JSON.stringify(path)} must be a regular file or a pipe: got a device. Redirect stdout to write there`,
    )
  if (there && !there.isFile()) {
    if (!isOurs(there) && (statSync(dirname(path)).mode & 0o022) !== 0)
      throw new CliError(
        `invalid output path: ${JSON.stringify(path)} is a pipe of another user, in a folder that others can write. Redirect stdout to write there`,
      )
    // Opened before signals are listened to: it waits for a reader, and Ctrl-C must end that.
    // Neither made nor cut: by now the path may lead to any file.
    const fd = openSync(path, constants.O_WRONLY)
    const pipe = createWriteStream(path, { fd })
    try {
      assertSame(path, there, fstatSync(fd, { bigint: true }))
      await write(pipe)
      pipe.end()
      await finished(pipe)
    } catch (error) {
      pipe.destroy()
      throw error
    }
    return
  }
  if (!there && lstatSync(path, { throwIfNoEntry: false }))
    throw new CliError(`invalid output path: ${JSON.stringify(path)} is a link that leads nowhere`)
  if (!there) return toFile(path, undefined, write)
  const real = realpathSync(path)
  assertSame(path, there, lstatSync(real, { throwIfNoEntry: false, bigint: true }))
  await toFile(real, there, write)
}

function assertSame(path: string, before: BigIntStats, now: BigIntStats | undefined): void {
  if (now?.dev !== before.dev || now.ino !== before.ino || now.mode !== before.mode || now.uid !== before.uid)
    throw new CliError(`invalid output path: ${JSON.stringify(path)} was exchanged while it was opened: try again`)
}

const isOurs = ({ uid }: BigIntStats): boolean => Number(uid) === process.geteuid?.()

/**
 * The file is there whole or not at all, also if a signal ends the command. It is ours, as docker's
 * is: no file is given away. One of ours that was there keeps its mode and group. In place of
 * somebody else's comes what a new file would be, with no more mode than that one had. So who could
 * not read what was there still cannot, and nobody reads by laying a file there first.
 */
async function toFile(
  path: string,
  there: BigIntStats | undefined,
  write: (file: Writable) => Promise<void>,
): Promise<void> {
  const temporary = `${path}.${randomBytes(4).toString('hex')}.part`
  const drop = (): void => rmSync(temporary, { force: true })
  const release = onSignals(['SIGINT', 'SIGTERM', 'SIGHUP'], (signal) => {
    drop()
    process.exit(exitCodeOf(signal))
  })
  const kept = there && isOurs(there) ? there : undefined
  let file: Writable | undefined
  try {
    // Opened here and now: a signal must not find a file that is about to be made.
    const fd = openSync(temporary, 'wx', kept ? 0o600 : Number(there?.mode ?? 0o666) & 0o666)
    file = createWriteStream(temporary, { fd })
    if (kept) keep(kept, fd)
    await write(file)
    file.end()
    await finished(file)
    await rename(temporary, path)
  } catch (error) {
    file?.destroy()
    drop()
    throw error
  } finally {
    release()
  }
}

function keep({ mode, uid, gid }: BigIntStats, fd: number): void {
  try {
    fchownSync(fd, Number(uid), Number(gid))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') throw error
  }
  fchmodSync(fd, Number(mode) & 0o777)
}

/**
 * Writes the body of `path` whole. Where the connection breaks, the rest is asked for after a
 * pause, TRIES times without progress.
 *
 * What comes is compared with what was asked for: a part must begin where the bytes so far end, and
 * belong to a whole of the same length and the same ETag.
 *
 * @param pause for tests
 * @throws CliError if the rest does not come, or is of something else; the error of `to`
 */
export async function fetchWhole(
  client: Client,
  path: string,
  to: Writable,
  pause: (ms: number) => Promise<unknown> = sleep,
): Promise<void> {
  let failed: unknown
  to.on('error', (error) => (failed = error))
  let whole: Whole | undefined
  let got = 0
  let progress = 0
  for (let tries = 0; ; tries++) {
    try {
      const headers = whole && { range: `bytes=${got}-`, 'if-range': whole.etag }
      const body = await client.stream(path, undefined, headers)
      if (whole) checkPart(body, whole, got)
      const total = totalOf(body)
      const { etag } = body.headers
      whole ??= etag === undefined ? undefined : { etag, total }
      for await (const piece of body as AsyncIterable<Buffer>) {
        if (failed) throw failed as Error
        got += piece.length
        if (total !== undefined && got > total) throw new CliError('more was sent than the length that was said')
        if (!to.write(piece)) await drained(to)
      }
      if (total === undefined || got === total) return
      // A part may end before the whole does.
      if (tries >= TRIES) throw new CliError(`the rest does not come, after ${got} bytes: begin again`)
    } catch (error) {
      if (failed !== undefined) throw failed as Error
      if (whole && got === whole.total) return
      const broke =
        error instanceof UnreachableError || (error instanceof Error && 'code' in error && error.code === 'ECONNRESET')
      if (!broke || whole === undefined)
        throw error instanceof CliError ? error : new CliError(`fetching failed: ${reasonOf(error)}`)
      if (tries >= TRIES && got - progress < PROGRESS)
        throw new CliError(`the connection broke ${tries + 1} times, the last time after ${got} bytes: begin again`, {
          cause: error,
        })
    }
    if (got - progress >= PROGRESS) {
      progress = got
      tries = 0
    }
    await pause(PAUSE_MS * 2 ** tries)
  }
}

/** What a download is a download of. */
interface Whole {
  readonly etag: string
  /** Bytes; `undefined` if the service did not say. */
  readonly total: number | undefined
}

/** The length of the whole, of an answer that is the whole or a part. */
function totalOf({ statusCode, headers }: IncomingMessage): number | undefined {
  const text = statusCode === 206 ? /\/(\d+)$/.exec(headers['content-range'] ?? '')?.[1] : headers['content-length']
  return text === undefined ? undefined : Number(text)
}

function checkPart(part: IncomingMessage, { etag, total }: Whole, start: number): void {
  const range = part.headers['content-range'] ?? ''
  if (part.statusCode !== 206 || part.headers.etag !== etag)
    throw new CliError('the connection broke, and what was being fetched has changed since: begin again')
  if (!range.startsWith(`bytes ${start}-`) || (total !== undefined && totalOf(part) !== total))
    throw new CliError(
      `the bytes from ${start} were asked for, and ${JSON.stringify(range)} was sent: there is an odd server or proxy in between`,
    )
}

async function drained(to: Writable): Promise<void> {
  await new Promise<void>((resolve) => {
    const done = (): void => {
      to.off('drain', done).off('close', done)
      resolve()
    }
    to.on('drain', done).on('close', done)
  })
}
