import { readFileSync } from 'node:fs'
import { Command, type CommanderError } from 'commander'
import { containerCommands } from './commands/containers.js'
import { diffCommand } from './commands/diff.js'
import { downCommand } from './commands/down.js'
import { exportCommand } from './commands/export.js'
import { fileCommands } from './commands/files.js'
import { historyCommand } from './commands/history.js'
import { imageCommands } from './commands/images.js'
import { importCommand } from './commands/import.js'
import { inspectCommand } from './commands/inspect.js'
import { jobsCommand } from './commands/jobs.js'
import { loadCommand } from './commands/load.js'
import { loginCommands } from './commands/login.js'
import { logsCommand } from './commands/logs.js'
import { manifestCommands } from './commands/manifest.js'
import { nodeCommands } from './commands/nodes.js'
import { pullCommand } from './commands/pull.js'
import { repositoryCommands } from './commands/repositories.js'
import { runCommand } from './commands/run.js'
import { saveCommand } from './commands/save.js'
import { serviceCommands } from './commands/services.js'
import { startCommands } from './commands/start.js'
import { systemCommands } from './commands/system.js'
import { upCommand } from './commands/up.js'
import type { Context } from './context.js'
import { flagName, unknownCommand } from './docker.js'
import { CliError, EXIT_NOT_RUN } from './errors.js'

/**
 * All commands. Parsing throws CliError for what is not understood; help and versions are printed,
 * and throw one with exit code 0.
 */
export function createProgram(context: Context): Command {
  const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
    version: string
  }
  const program = new Command('strata')
    .description('Container images in, layers apart, containers out.')
    .version(`Strata version ${version}`, '-v, --version')
    .helpCommand(true)
    // `strata run -e A=1 image cmd -e x`: a command's options are its own, and run's end at the
    // image.
    .enablePositionalOptions()
    .showSuggestionAfterError(false)
    .configureOutput({ writeErr: () => undefined, outputError: () => undefined })
    .addHelpText(
      'after',
      '\nEnvironment: STRATA_HOST (unix:///…, http://host:port or https://host:port), STRATA_TOKEN, STRATA_TLS_CA',
    )
  upCommand(program, context)
  downCommand(program, context)
  serviceCommands(program)
  systemCommands(program, context, version)
  loadCommand(program, context)
  pullCommand(program, context)
  loginCommands(program, context)
  saveCommand(program, context)
  importCommand(program, context)
  imageCommands(program, context)
  inspectCommand(program, context)
  historyCommand(program, context)
  repositoryCommands(program, context)
  manifestCommands(program, context)
  fileCommands(program, context)
  diffCommand(program, context)
  exportCommand(program, context)
  runCommand(program, context)
  startCommands(program, context)
  containerCommands(program, context)
  logsCommand(program, context)
  jobsCommand(program, context)
  nodeCommands(program, context)
  // Whatever is no command arrives here as an argument.
  program.allowExcessArguments().action((_options: object, command: Command) => {
    const [name] = command.args
    if (name === undefined) program.outputHelp()
    else throw new CliError(unknownCommand(name), { exitCode: EXIT_NOT_RUN })
  })
  program.exitOverride((error) => refuse('strata', error))
  for (const command of program.commands) {
    command.exitOverride((error) => refuse(`strata ${command.name()}`, error))
    for (const part of command.commands)
      part.exitOverride((error) => refuse(`strata ${command.name()} ${part.name()}`, error))
  }
  return program
}

/**
 * docker's exit codes: 125 for a flag it does not know or whose value is wrong, 1 for too few or
 * too many words.
 */
function refuse(command: string, error: CommanderError): never {
  if (error.exitCode === 0) throw new CliError('', { exitCode: 0 })
  const help = `See '${command} --help'`
  if (error.code === 'commander.unknownOption') {
    const flag = /'(.*)'/s.exec(error.message)?.[1] ?? ''
    throw new CliError(`the flag ${flagName(flag)} is not supported. ${help}`, {
      exitCode: EXIT_NOT_RUN,
      speaker: command,
    })
  }
  const usage = error.code === 'commander.missingArgument' || error.code === 'commander.excessArguments'
  throw new CliError(`${error.message.replace(/^error: /, '').replace(/\.$/, '')}. ${help}`, {
    exitCode: usage ? 1 : EXIT_NOT_RUN,
    speaker: command,
  })
}
