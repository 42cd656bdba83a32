import { randomBytes } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { rename, rm } from 'node:fs/promises'
import type { Writable } from 'node:stream'
import { finished } from 'node:stream/promises'
import type { Client } from './client.js'
import { CliError, reasonOf, UnreachableError } from './errors.js'

/** How often a download that broke goes on where it was, without a byte in between. */
const TRIES = 5

/** The body of `path` into a file, or to stdout. */
export async function download(client: Client, path: string, file: string | undefined): Promise<void> {
  if (file === undefined) await fetchWhole(client, path, process.stdout)
  else await toFile(file, (to) => fetchWhole(client, path, to))
}

/** The file is there whole or not at all. */
async function toFile(path: string, write: (file: Writable) => Promise<void>): Promise<void> {
  const temporary = `${path}.${randomBytes(4).toString('hex')}.part`
  const file = createWriteStream(temporary, { flags: 'wx' })
  try {
    await write(file)
    file.end()
    await finished(file)
    await rename(temporary, path)
  } catch (error) {
    file.destroy()
    await rm(temporary, { force: true })
    throw error instanceof CliError ? error : new CliError(`${path}: ${reasonOf(error)}`)
  }
}

/** Writes the body of `path` whole: where the connection breaks, the rest is asked for. */
async function fetchWhole(client: Client, path: string, to: Writable): Promise<void> {
  let failed: unknown
  to.on('error', (error) => (failed = error))
  let etag: string | undefined
  let got = 0
  for (let tries = 0; ; tries++) {
    try {
      const body = await client.stream(
        path,
        undefined,
        etag === undefined ? {} : { range: `bytes=${got}-`, 'if-range': etag },
      )
      if (etag !== undefined && body.statusCode !== 206)
        throw new CliError('the connection broke, and what was being fetched has changed since: begin again')
      etag = body.headers.etag
      for await (const piece of body as AsyncIterable<Buffer>) {
        if (failed) throw failed as Error
        got += piece.length
        tries = 0
        if (!to.write(piece)) await drained(to)
      }
      return
    } catch (error) {
      const broke =
        error instanceof UnreachableError || (error instanceof Error && 'code' in error && error.code === 'ECONNRESET')
      if (!broke || etag === undefined || tries >= TRIES)
        throw error instanceof CliError ? error : new CliError(`fetching failed: ${reasonOf(error)}`)
    }
  }
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
