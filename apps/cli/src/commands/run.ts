import { randomUUID } from 'node:crypto'
import { InvalidArgumentError, type Command } from 'commander'
import type { CreateContainer } from '@strata/api'
import type { ErrorCode } from '@strata/base'
import { urlOf, type Client } from '../client.js'
import { type Context } from '../context.js'
import { collectEnv } from '../env-file.js'
import { CliError, EXIT_NOT_RUN } from '../errors.js'
import { demultiplex } from '../frames.js'
import { exitCodeOf, onSignals } from '../signals.js'
import { complain, print } from '../terminal.js'

interface RunOptions {
  readonly detach?: boolean
  readonly rm?: boolean
  readonly name?: string
  readonly env: string[]
  readonly envFile: string[]
  readonly workdir?: string
  readonly user?: string
  readonly entrypoint?: string
  readonly hostname?: string
  readonly network?: 'none' | 'host'
}

/**
 * What a terminal or another process may send to us is the container's. docker passes on every
 * signal it can; these are the ones that mean something.
 */
const PASSED_ON: NodeJS.Signals[] = ['SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGTERM', 'SIGUSR1', 'SIGUSR2', 'SIGALRM']

const append = (value: string, before: string[]): string[] => [...before, value]

export function runCommand(program: Command, context: Context): void {
  program
    .command('run')
    .description('launch a container from an image')
    .argument('<image>')
    .argument('[command...]', "replaces the image's own command; options of strata end at the image")
    .passThroughOptions()
    .helpOption('--help', 'display help for command')
    .option('-d, --detach', 'run in the background and print the id')
    .option('--rm', 'remove the container when it ends')
    .option('--name <name>', 'a name for the container')
    .option('-e, --env <variable>', 'NAME=VALUE, or NAME to pass on its value here', append, [])
    .option('--env-file <file>', 'a file of such lines', append, [])
    .option('-w, --workdir <dir>', 'the working directory in the container')
    .option('-u, --user <user>', 'NAME|UID[:GROUP|GID]')
    .option('--entrypoint <program>', "replaces the image's entrypoint and drops its command; empty for none")
    .option('-h, --hostname <name>', 'the host name in the container')
    .option('--network <network>', 'none (only lo, the default) or host', parseNetwork)
    .action(async (image: string, command: string[], options: RunOptions) => {
      try {
        await run(context.client(), request(image, command, options, context.environment), options)
      } catch (error) {
        throw error instanceof CliError ? withExitCode(error) : error
      }
    })
}

function parseNetwork(text: string): string {
  if (text === 'none' || text === 'host') return text
  throw new InvalidArgumentError(`The network ${text} is not supported: none or host.`)
}

function request(
  image: string,
  command: readonly string[],
  options: RunOptions,
  environment: NodeJS.ProcessEnv,
): CreateContainer {
  const { workdir, user, entrypoint, hostname, name, network } = options
  const env = collectEnv(options.envFile, options.env, environment)
  return {
    image,
    attach: !options.detach,
    ...(command.length > 0 && { command: [...command] }),
    // docker's `--entrypoint ""` takes the image's entrypoint away.
    ...(entrypoint !== undefined && { entrypoint: entrypoint === '' ? [] : [entrypoint] }),
    ...(env.length > 0 && { env }),
    ...(workdir !== undefined && { workdir }),
    ...(user !== undefined && { user }),
    ...(hostname !== undefined && { hostname }),
    ...(name !== undefined && { name }),
    ...(network !== undefined && { network }),
    ...(options.rm && { autoRemove: true }),
  }
}

async function run(client: Client, body: CreateContainer, options: RunOptions): Promise<void> {
  // Until the container is there a signal takes the launch back; from then on it is the
  // container's.
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
    const container = await client.call('createContainer', { query: { job }, body }).catch((error: unknown) => {
      if (early !== undefined) throw new CliError('the launch was cancelled', { exitCode: exitCodeOf(early) })
      throw error
    })
    containerId = container.id
    if (early !== undefined) pass(client, containerId, early)
    if (options.detach) print(container.id)
    else {
      process.exitCode = await attend(client, container.id)
      // The node removes it by itself; asked for too, so that it and its name are gone when we are.
      if (options.rm) await client.call('removeContainer', { params: { id: container.id } }).catch(() => undefined)
    }
  } finally {
    release()
  }
}

/** One that has just ended can take no signal, and one that goes away meanwhile is no error. */
function pass(client: Client, id: string, signal: NodeJS.Signals): void {
  client.call('killContainer', { params: { id }, body: { signal } }).catch(() => undefined)
}

/**
 * The container's output here, then its exit code. The end is asked for at once, beside the output:
 * a `--rm` container is gone as soon as those who waited were answered, and a reader of ours that
 * pauses must not be too late.
 */
async function attend(client: Client, id: string): Promise<number> {
  const gone = new AbortController()
  const output = async (): Promise<void> => {
    const body = await client.stream(urlOf('containerLogs', { params: { id }, query: { attach: true } }), gone.signal)
    try {
      await demultiplex(body, process.stdout, process.stderr)
    } catch (error) {
      // As docker: the client ends, the container goes on.
      if (isBrokenPipe(error))
        throw new OutputGone(
          `nobody reads the output any more; the container goes on (strata logs ${id.slice(0, 12)})`,
          { cause: error },
        )
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

class OutputGone extends CliError {}

function isBrokenPipe(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'EPIPE'
}

const EXIT_CODES: Partial<Record<ErrorCode, number>> = { command_not_executable: 126, command_not_found: 127 }

/**
 * docker's codes: 126 and 127 for a command that cannot be run, 125 for all else that is not the
 * container's own end.
 */
function withExitCode(error: CliError): CliError {
  if (error.exitCode !== 1 || error instanceof OutputGone) return error
  return new CliError(error.message, {
    exitCode: EXIT_CODES[error.code ?? 'internal'] ?? EXIT_NOT_RUN,
    code: error.code,
    cause: error,
  })
}
