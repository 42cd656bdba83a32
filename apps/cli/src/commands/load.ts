import { randomUUID } from 'node:crypto'
import type { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Descriptor, DESCRIPTOR_TYPE, JobView, LoadResult } from '@strata/api'
import type { Command } from 'commander'
import { openArchive, type Archive } from '../archive.js'
import { urlOf, type Client } from '../client.js'
import { type Context } from '../context.js'
import { CliError } from '../errors.js'
import { serverEvents } from '../events.js'
import { loadReport } from '../format/load-report.js'
import { barProgress, lineProgress, noProgress, type Progress } from '../progress.js'
import { exitCodeOf, onSignals } from '../signals.js'
import { note, print } from '../terminal.js'

interface LoadOptions {
  readonly input?: string
  readonly quiet?: boolean
  readonly name?: string
  readonly platform?: string
}

export function loadCommand(program: Command, context: Context): void {
  program
    .command('load')
    .description('load images from an archive: docker save, podman save, OCI layout; plain, gzip, zstd, bzip2 or xz')
    .argument('[file]', 'the archive, or the folder of an OCI image layout; - or none is stdin')
    .option('-i, --input <file>', 'the archive, as docker load takes it')
    .option('--name <name>', 'the name for an image whose archive gives none, or only a bare tag')
    .option('--platform <platform>', 'which platform of an image that has several: os/arch, or all to keep every one')
    .option('-q, --quiet', 'no progress')
    .action(async (file: string | undefined, options: LoadOptions) => {
      if (file !== undefined && options.input !== undefined)
        throw new CliError('load takes one archive: FILE or -i FILE')
      const client = context.client()
      const archive = openArchive(options.input ?? file, 'load')
      const { name, platform, quiet } = options
      const result = await send(
        client,
        archive,
        [
          ['name', name],
          ['platform', platform],
        ],
        quiet,
      )
      if (result.found && !quiet) note(loadReport(result.images, result.found))
      for (const image of result.images) {
        for (const name of image.names) print(`Loaded image: ${name}`)
        if (image.names.length === 0) print(`Loaded image ID: ${image.id}`)
      }
    })
}

/** Not imported: a command that starts fast loads no schemas. */
const TYPE: typeof DESCRIPTOR_TYPE = 'application/vnd.strata.descriptor+json'

/**
 * Brings the bytes to `POST /v1/images`, by a local upload if the service takes it, shows how it
 * goes, and gives the answer. A signal cancels the job.
 */
export async function send(
  client: Client,
  archive: Archive,
  query: readonly (readonly [name: string, value: string | undefined])[],
  isQuiet = false,
): Promise<LoadResult> {
  const progress = isQuiet
    ? noProgress
    : process.stderr.isTTY
      ? barProgress(process.stderr)
      : lineProgress(process.stderr)
  const job = randomUUID()
  const parameters = new URLSearchParams({ job })
  for (const [key, value] of query) if (value !== undefined) parameters.append(key, value)
  const path = `${urlOf('loadImages', {})}?${parameters.toString()}`
  const ended = new AbortController()
  const cancelled = Promise.withResolvers<never>()
  const release = onSignals(['SIGINT', 'SIGTERM', 'SIGHUP'], (signal) => {
    // The job is told first: a connection that merely breaks could be a client about to come back.
    // A second signal does not wait.
    release()
    const leave = (): void => cancelled.reject(new CliError('the load was cancelled', { exitCode: exitCodeOf(signal) }))
    client.call('cancelJob', { params: { id: job } }, ended.signal).then(leave, leave)
  })
  const follow = (until: AbortSignal, counts = false): void => void followJob(client, job, { progress, counts }, until)
  const descriptor = client.endpoint.kind === 'unix' ? archive.descriptor() : undefined
  try {
    const named = descriptor && nameDescriptor(client, path, descriptor, follow, ended.signal)
    const loaded = await Promise.race([named, cancelled.promise])
    if (loaded) return loaded
    const bytes = archive.bytes()
    const upload = client.upload(path, { bytes, length: archive.length }, ended.signal)
    countBytes(bytes, archive.length, progress)
    follow(ended.signal)
    return await Promise.race([upload, cancelled.promise])
  } finally {
    release()
    ended.abort()
    progress.close()
    archive.close()
  }
}

/**
 * The service reads the file by itself. `undefined` where it cannot: then nothing has happened yet,
 * and the bytes are to be sent.
 */
async function nameDescriptor(
  client: Client,
  path: string,
  descriptor: Descriptor,
  follow: (until: AbortSignal, counts: boolean) => void,
  signal: AbortSignal,
): Promise<LoadResult | undefined> {
  const answered = new AbortController()
  try {
    const loaded = client.loadOpenFile(path, descriptor, TYPE, signal)
    follow(AbortSignal.any([signal, answered.signal]), true)
    return await loaded
  } catch (error) {
    if (error instanceof CliError && error.code === 'descriptor_refused') return undefined
    throw error
  } finally {
    answered.abort()
  }
}

function countBytes(bytes: Readable, length: number | undefined, progress: Progress): void {
  let sent = 0
  bytes.on('data', (chunk: Buffer) => {
    sent += chunk.length
    progress.sent(sent, length)
  })
}

const NOT_YET_MS = 50

/**
 * Only to show something: whatever fails here, the request's own answer says how the load ended.
 * `counts`: the service's count of bytes is shown, for nobody else counts them.
 */
async function followJob(
  client: Client,
  job: string,
  { progress, counts }: { progress: Progress; counts: boolean },
  signal: AbortSignal,
): Promise<void> {
  if (progress === noProgress) return
  try {
    const body = await eventsOf(client, job, signal)
    for await (const { event, data } of serverEvents(body)) {
      if (signal.aborted || event === 'end') return
      const { state, step, bytes, total } = JSON.parse(data) as Partial<JobView>
      if (state !== 'receiving' || step !== 'receiving') progress.step(step ?? '')
      else if (counts) progress.sent(bytes ?? 0, total)
    }
  } catch {
    return
  }
}

/** A job is there a moment after its request began. */
async function eventsOf(client: Client, job: string, signal: AbortSignal): Promise<AsyncIterable<Buffer>> {
  for (;;) {
    try {
      return await client.stream(urlOf('followJob', { params: { id: job } }), signal)
    } catch (error) {
      if (!(error instanceof CliError) || error.code !== 'job_not_found') throw error
      await sleep(NOT_YET_MS, undefined, { signal })
    }
  }
}
