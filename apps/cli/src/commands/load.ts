import type { Readable } from 'node:stream'
import type { Descriptor, DESCRIPTOR_TYPE, LoadResult } from '@strata/api'
import type { Command } from 'commander'
import { openArchive, type Archive } from '../archive.js'
import { urlOf, type Client } from '../client.js'
import { type Context } from '../context.js'
import { CliError } from '../errors.js'
import { loadReport } from '../format/load-report.js'
import { cancellable, followJob } from '../job.js'
import { barProgress, lineProgress, noProgress, type Progress } from '../progress.js'
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
  const descriptor = client.endpoint.kind === 'unix' ? archive.descriptor() : undefined
  try {
    return await cancellable(client, 'the load', async (job, signal) => {
      const parameters = new URLSearchParams({ job })
      for (const [key, value] of query) if (value !== undefined) parameters.append(key, value)
      const path = `${urlOf('loadImages', {})}?${parameters.toString()}`
      const follow = (until: AbortSignal, counts = false): void => void showJob(client, job, progress, counts, until)
      const loaded = descriptor && (await nameDescriptor(client, path, descriptor, follow, signal))
      if (loaded) return loaded
      signal.throwIfAborted()
      const bytes = archive.bytes()
      const upload = client.upload(path, { bytes, length: archive.length }, signal)
      countBytes(bytes, archive.length, progress)
      follow(signal)
      return await upload
    })
  } finally {
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

/** `counts`: the bytes that are shown are those that the service has counted. */
async function showJob(
  client: Client,
  job: string,
  progress: Progress,
  counts: boolean,
  signal: AbortSignal,
): Promise<void> {
  if (progress === noProgress) return
  await followJob(
    client,
    job,
    ({ state, step, bytes, total }) => {
      if (state !== 'receiving' || step !== 'receiving') progress.step(step ?? '')
      else if (counts) progress.sent(bytes ?? 0, total)
    },
    signal,
  )
}
