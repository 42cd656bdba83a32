import { randomBytes } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { readFile, rename, rm } from 'node:fs/promises'
import type { Writable } from 'node:stream'
import { finished } from 'node:stream/promises'
import type { Command } from 'commander'
import type { Client } from '../client.js'
import type { Context } from '../context.js'
import { CliError, reasonOf, UnreachableError } from '../errors.js'

interface SaveOptions {
  readonly output?: string
  readonly format: 'docker' | 'oci'
  readonly platform?: string
  readonly since: string[]
  readonly have?: string
}

/** How often a download that broke goes on where it was, without a byte in between. */
const TRIES = 5

export function saveCommand(program: Command, context: Context): void {
  program
    .command('save')
    .description('save images to an archive, which docker load, podman load, skopeo and strata load take')
    .argument('<image...>')
    .option('-o, --output <file>', 'write to a file, not to stdout')
    .option('--format <format>', 'docker (an OCI layout with manifest.json) or oci', 'docker')
    .option('--platform <platform>', 'of images kept with all their platforms: this one alone')
    .option('--since <image>', 'leave out the layers of an image that the receiver has; may be repeated', (value: string, all: string[]) => [...all, value], [])
    .option('--have <file>', 'leave out the layers whose digests are in the file, one a line')
    .action(async ([first = '', ...also]: string[], { output, format, platform, since, have }: SaveOptions) => {
      if (output === undefined && process.stdout.isTTY) throw new CliError('cowardly refusing to save to a terminal. Use the -o flag or redirect')
      const query = new URLSearchParams({ format, ...(platform === undefined ? {} : { platform }) })
      for (const image of also) query.append('also', image)
      for (const image of since) query.append('since', image)
      for (const digest of await digestsIn(have)) query.append('have', digest)
      const path = `/v1/images/${encodeURIComponent(first)}/archive?${query.toString()}`
      if (output === undefined) await download(context.client(), path, process.stdout)
      else await toFile(output, (file) => download(context.client(), path, file))
    })
}

async function digestsIn(file: string | undefined): Promise<string[]> {
  if (file === undefined) return []
  const text = await readFile(file, 'utf8').catch((error: unknown) => {
    throw new CliError(`${file}: ${reasonOf(error)}`)
  })
  return text.split(/\s+/).filter((word) => word !== '')
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
async function download(client: Client, path: string, to: Writable): Promise<void> {
  let failed: unknown
  to.on('error', (error) => (failed = error))
  let etag: string | undefined
  let got = 0
  for (let tries = 0; ; tries++) {
    try {
      const body = await client.stream(path, undefined, etag === undefined ? {} : { range: `bytes=${got}-`, 'if-range': etag })
      if (etag !== undefined && body.statusCode !== 206) throw new CliError('the connection broke, and what was being saved has changed since: save it again')
      etag = body.headers.etag
      for await (const piece of body as AsyncIterable<Buffer>) {
        if (failed) throw failed as Error
        got += piece.length
        tries = 0
        if (!to.write(piece)) await drained(to)
      }
      return
    } catch (error) {
      const broke = error instanceof UnreachableError || (error instanceof Error && 'code' in error && error.code === 'ECONNRESET')
      if (!broke || etag === undefined || tries >= TRIES) throw error instanceof CliError ? error : new CliError(`saving failed: ${reasonOf(error)}`)
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
