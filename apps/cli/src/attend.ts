import { randomUUID } from 'node:crypto'
import { urlOf, type Client } from './client.js'
import { CliError } from './errors.js'
import { demultiplex } from './frames.js'
import { OutputError, stderr, stdout } from './output.js'
import { exitCodeOf, onSignals } from './signals.js'
import { complain } from './terminal.js'

/**
 * The signals that are passed on to the container: those that a terminal or another process sends
 * on purpose. docker passes on every signal that it can.
 */
const PASSED_ON: NodeJS.Signals[] = ['SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGTERM', 'SIGUSR1', 'SIGUSR2', 'SIGALRM']

/**
 * Has a container made or started by `ask`, as the request `job`, then does `work` with it. Until
 * `ask` is answered a signal cancels the request; from then on signals are the container's. If the
 * request was done all the same (a signal may come before the service has the job), `late` does
 * with the container what the signal wants; without it, the container gets the signal.
 */
export async function withSignals(
  client: Client,
  ask: (job: string) => Promise<{ readonly id: string }>,
  work: (id: string) => Promise<void>,
  late?: (id: string) => Promise<void>,
): Promise<void> {
  const job = randomUUID()
  let containerId: string | undefined
  let early: NodeJS.Signals | undefined
  const release = onSignals(PASSED_ON, (signal) => {
    if (containerId !== undefined) pass(client, containerId, signal)
    else if (early === undefined) {
      early = signal
      client.call('cancelJob', { params: { id: job } }).catch(() => undefined)
    } else process.exit(exitCodeOf(signal))
  })
  try {
    const { id } = await ask(job).catch((error: unknown) => {
      if (early !== undefined) throw cancelled(early)
      throw error
    })
    if (early !== undefined && late) {
      await late(id)
      throw cancelled(early)
    }
    containerId = id
    if (early !== undefined) pass(client, id, early)
    await work(id)
  } finally {
    release()
  }
}

function cancelled(signal: NodeJS.Signals): CliError {
  return new CliError('the launch was cancelled', { exitCode: exitCodeOf(signal) })
}

/** A container that has just ended, or was removed, takes no signal: that is no error. */
function pass(client: Client, id: string, signal: NodeJS.Signals): void {
  client.call('killContainer', { params: { id }, body: { signal } }).catch(() => undefined)
}

/**
 * The container's output here, then its exit code. The end is asked for at once, beside the output:
 * a `--rm` container is gone as soon as those who waited were answered, and a reader of ours that
 * pauses must not be too late.
 */
export async function attend(client: Client, id: string): Promise<number> {
  const gone = new AbortController()
  const output = async (): Promise<void> => {
    const body = await client.stream(urlOf('containerLogs', { params: { id }, query: { attach: true } }), gone.signal)
    try {
      await demultiplex(body, stdout, stderr)
    } catch (error) {
      // As docker: the client ends, the container goes on.
      if (error instanceof OutputError) {
        const what = error.isGone ? 'nobody reads the output any more' : error.message
        throw new OutputGone(`${what}; the container goes on (strata logs ${id.slice(0, 12)})`, { cause: error })
      }
      throw error instanceof CliError
        ? error
        : new CliError('the connection to Strata broke while the output was read', { cause: error })
    }
  }
  try {
    const [result] = await Promise.all([client.call('waitContainer', { params: { id } }, gone.signal), output()])
    if (result.reason !== undefined) complain(result.reason)
    return result.exitCode
  } finally {
    gone.abort()
  }
}

export class OutputGone extends CliError {}
