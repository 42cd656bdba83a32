import { randomUUID } from 'node:crypto'
import { open } from 'node:fs/promises'
import type { Readable } from 'node:stream'
import type { JobView, LoadResult } from '@strata/api'
import type { Command } from 'commander'
import type { Client, Upload } from '../client.js'
import { print, type Context } from '../context.js'
import { CliError, reasonOf } from '../errors.js'
import { serverEvents } from '../events.js'
import { barProgress, lineProgress, noProgress, type Progress } from '../progress.js'
import { exitCodeOf, onSignals } from '../signals.js'

interface LoadOptions {
  readonly input?: string
  readonly quiet?: boolean
  readonly name?: string
}

export function loadCommand(program: Command, context: Context): void {
  program
    .command('load')
    .description('load images from an archive: docker save, podman save, OCI layout; plain, gzip or zstd')
    .argument('[file]', 'the archive; - or none is stdin')
    .option('-i, --input <file>', 'the archive, as docker load takes it')
    .option('--name <name>', 'the name for an image whose archive gives none, or only a bare tag')
    .option('-q, --quiet', 'no progress')
    .action(async (file: string | undefined, options: LoadOptions) => {
      if (file !== undefined && options.input !== undefined) throw new CliError('load takes one archive: FILE or -i FILE')
      const client = context.client()
      const archive = await openArchive(options.input ?? file)
      const progress = options.quiet ? noProgress : process.stderr.isTTY ? barProgress(process.stderr) : lineProgress(process.stderr)
      const result = await load(client, archive, options.name, progress)
      for (const image of result.images) {
        for (const name of image.names) print(`Loaded image: ${name}`)
        if (image.names.length === 0) print(`Loaded image ID: ${image.id}`)
      }
    })
}

/** A regular file has a length; a pipe, and what a shell opened for us at some offset, has none. */
async function openArchive(path: string | undefined): Promise<Upload> {
  if (path === undefined || path === '-') {
    if (process.stdin.isTTY) throw new CliError('load reads an archive from stdin or a file, and stdin is a terminal: strata load FILE')
    return { bytes: process.stdin }
  }
  try {
    const file = await open(path)
    const status = await file.stat()
    if (status.isDirectory()) {
      await file.close()
      throw new CliError(`${path} is a folder: load takes an archive (tar -C ${path} -c . | strata load)`)
    }
    return { bytes: file.createReadStream({ highWaterMark: 1024 * 1024 }), length: status.isFile() ? status.size : undefined }
  } catch (error) {
    if (error instanceof CliError) throw error
    throw new CliError(`open ${path}: ${reasonOf(error)}`, { cause: error })
  }
}

async function load(client: Client, archive: Upload, name: string | undefined, progress: Progress): Promise<LoadResult> {
  const job = randomUUID()
  const query = new URLSearchParams({ job, ...(name === undefined ? {} : { name }) })
  const ended = new AbortController()
  const cancelled = Promise.withResolvers<never>()
  const release = onSignals(['SIGINT', 'SIGTERM', 'SIGHUP'], (signal) => {
    // The job is told first: a connection that merely breaks could be a client about to come back. A second signal does not wait.
    release()
    const leave = (): void => cancelled.reject(new CliError('the load was cancelled', { exitCode: exitCodeOf(signal) }))
    client.call('DELETE', `/v1/jobs/${job}`, { signal: ended.signal }).then(leave, leave)
  })
  try {
    const upload = client.upload<LoadResult>(`/v1/images?${query.toString()}`, archive, ended.signal)
    countBytes(archive, progress, () => void followSteps(client, job, progress, ended.signal))
    return await Promise.race([upload, cancelled.promise])
  } finally {
    release()
    ended.abort()
    progress.close()
  }
}

function countBytes({ bytes, length }: { bytes: Readable; length?: number | undefined }, progress: Progress, whole: () => void): void {
  let sent = 0
  bytes.on('data', (chunk: Buffer) => {
    sent += chunk.length
    progress.sent(sent, length)
  })
  bytes.once('end', whole)
}

/** Only to show something: whatever fails here, the request's own answer says how the load ended. */
async function followSteps(client: Client, job: string, progress: Progress, signal: AbortSignal): Promise<void> {
  try {
    const body = await client.stream(`/v1/jobs/${job}/events`, signal)
    for await (const { event, data } of serverEvents(body)) {
      if (signal.aborted || event === 'end') return
      const { state, step } = JSON.parse(data) as Partial<JobView>
      if (typeof step === 'string' && state !== 'receiving') progress.step(step)
    }
  } catch {
    return
  }
}
