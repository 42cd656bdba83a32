/**
 * The commands of `docker` (28) that Strata has not. Whoever comes from there is told so by name
 * instead of being left to guess; a command that arrives here leaves this list.
 */
const DOCKER_COMMANDS = new Set(
  (
    'attach bake build builder buildx checkpoint commit compose config container context cp events exec image init ' +
    'network pause plugin port push rename restart save scout search secret service stack stats swarm top trust unpause update volume'
  ).split(' '),
)

export function unknownCommand(name: string): string {
  if (DOCKER_COMMANDS.has(name)) return `'${name}' is a docker command that Strata does not have (yet)`
  return `'${name}' is not a strata command. See 'strata --help'`
}

/** `-p` of `-p80:80` and of `-pit`, `--publish` of `--publish=80:80`. */
export function flagName(argument: string): string {
  return argument.startsWith('--') ? (argument.split('=', 1)[0] ?? argument) : argument.slice(0, 2)
}
