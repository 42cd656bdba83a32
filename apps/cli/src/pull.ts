import type { LoadResult, RegistryAuth } from '@strata/api'
import { StrataError } from '@strata/base'
import { familiarReference, formatReference, parseTagged, type Reference } from '@strata/oci/reference'
import type { Client } from './client.js'
import type { Context } from './context.js'
import { hostOf } from './credentials/server.js'
import { CliError } from './errors.js'
import { cancellable, followJob } from './job.js'
import { drawnPull, noPullProgress, pullLines } from './pull-progress.js'
import { note } from './terminal.js'

export interface PullOptions {
  readonly platform?: string
  readonly quiet?: boolean
  readonly insecure?: boolean
}

/** A name as docker reads it: `latest` where it has neither a tag nor a digest. */
export function readName(name: string): Reference {
  try {
    return parseTagged(name)
  } catch (error) {
    if (!(error instanceof StrataError)) throw error
    throw new CliError(error.message, { code: error.code, cause: error })
  }
}

/**
 * Has the service pull an image, with the user's login for its registry, and shows how it goes. A
 * signal cancels the job.
 */
export async function pull(
  client: Client,
  context: Context,
  reference: Reference,
  { quiet = false, platform, insecure }: PullOptions,
): Promise<LoadResult['pulled']> {
  const { repository, tag, digest } = reference
  const [domain = '', ...path] = repository.split('/')
  const auth = await authFor(context, hostOf(domain))
  if (!quiet) note(`${tag ?? digest ?? ''}: Pulling from ${path.join('/')}`)
  const progress = quiet ? noPullProgress : process.stderr.isTTY ? drawnPull(process.stderr) : pullLines(process.stderr)
  try {
    return await cancellable(client, 'the pull', async (job, signal) => {
      const query = { pull: formatReference(reference), job, platform, ...(insecure && { insecure }) }
      const answer = client.pull(query, auth, signal)
      if (progress !== noPullProgress) void followJob(client, job, (view) => progress.show(view), signal)
      return (await answer).pulled
    })
  } finally {
    progress.close()
  }
}

/** What docker says at the end of a pull. */
export function pullReport(reference: Reference, pulled: NonNullable<LoadResult['pulled']>): string {
  const status = pulled.changed ? 'Downloaded newer image' : 'Image is up to date'
  return `Digest: ${pulled.digest}\nStatus: ${status} for ${familiarReference(reference)}`
}

const MAX_AUTH_BYTES = 16 * 1024

/** The value of docker's header for the registry of this host; none where the user has no login. */
async function authFor({ environment }: Context, host: string): Promise<string | undefined> {
  // Loaded only now: other commands have no use for it.
  const { Logins } = await import('./credentials/logins.js')
  const login = await new Logins(environment).find(host)
  return login && authHeader(host, login)
}

function authHeader(host: string, login: RegistryAuth): string {
  const header = Buffer.from(JSON.stringify(login)).toString('base64url')
  if (header.length <= MAX_AUTH_BYTES) return header
  throw new CliError(`the login for ${host} has more than ${MAX_AUTH_BYTES} bytes: log in again (strata login ${host})`)
}
