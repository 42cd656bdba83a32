import { InvalidArgumentError, type Command } from 'commander'
import type { CreateContainer } from '@strata/api'
import { collectEnv } from './env-file.js'
import { parsePullPolicy, type PullChoice } from './pull-policy.js'

/** The options of the container that `run` and `create` share. */
export interface ContainerOptions extends PullChoice {
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

const append = (value: string, before: string[]): string[] => [...before, value]

/** Adds the image, its command, and the options that `run` and `create` share. */
export function withContainerOptions(command: Command): Command {
  return command
    .argument('<image>')
    .argument('[command...]', "replaces the image's own command; options of strata end at the image")
    .passThroughOptions()
    .helpOption('--help', 'display help for command')
    .option('--rm', 'remove the container when it ends')
    .option('--name <name>', 'a name for the container')
    .option('-e, --env <variable>', 'NAME=VALUE, or NAME to pass on its value here', append, [])
    .option('--env-file <file>', 'a file of such lines', append, [])
    .option('-w, --workdir <dir>', 'the working directory in the container')
    .option('-u, --user <user>', 'NAME|UID[:GROUP|GID]')
    .option('--entrypoint <program>', "replaces the image's entrypoint and drops its command; empty for none")
    .option('-h, --hostname <name>', 'the host name in the container')
    .option('--pull <when>', 'pull the image: always, missing or never', parsePullPolicy, 'missing')
    .option('-q, --quiet', 'no progress of the pull')
    .option('--network <network>', 'none (only lo, the default) or host', parseNetwork)
}

function parseNetwork(text: string): string {
  if (text === 'none' || text === 'host') return text
  throw new InvalidArgumentError(`The network ${text} is not supported: none or host.`)
}

export function containerRequest(
  image: string,
  command: readonly string[],
  options: ContainerOptions,
  environment: NodeJS.ProcessEnv,
): CreateContainer {
  const { workdir, user, entrypoint, hostname, name, network } = options
  const env = collectEnv(options.envFile, options.env, environment)
  return {
    image,
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
