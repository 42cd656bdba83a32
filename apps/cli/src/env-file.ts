import { readFileSync } from 'node:fs'
import { CliError, EXIT_NOT_RUN, reasonOf } from './errors.js'

/**
 * `NAME=VALUE` as given; `NAME` alone takes the value of our own environment, and is left out where
 * that has none.
 */
function resolve(item: string, environment: NodeJS.ProcessEnv): string[] {
  if (item.includes('=')) return [item]
  const value = environment[item]
  return value === undefined ? [] : [`${item}=${value}`]
}

/**
 * docker's format of `--env-file` (docker/cli, opts/file.go): a line each; blank lines and those
 * that begin with # are skipped; white space before the name is dropped, the value is taken as it
 * stands, quotes too; a name holds no white space.
 */
export function parseEnvFile(text: string, file: string, environment: NodeJS.ProcessEnv): string[] {
  return text
    .replace(/^\uFEFF/, '')
    .split('\n')
    .flatMap((raw) => {
      const line = raw.replace(/\r$/, '').trimStart()
      if (line === '' || line.startsWith('#')) return []
      const name = line.split('=', 1)[0] ?? ''
      if (name === '')
        throw new CliError(`invalid env file ${file}: no variable name on line '${line}'`, { exitCode: EXIT_NOT_RUN })
      if (/\s/.test(name))
        throw new CliError(`invalid env file ${file}: variable '${name}' contains whitespaces`, {
          exitCode: EXIT_NOT_RUN,
        })
      return resolve(line, environment)
    })
}

/** The files first, in their order, then the single variables, so that these win. */
export function collectEnv(
  files: readonly string[],
  variables: readonly string[],
  environment: NodeJS.ProcessEnv,
): string[] {
  const fromFiles = files.flatMap((file) => {
    try {
      return parseEnvFile(readFileSync(file, 'utf8'), file, environment)
    } catch (error) {
      if (error instanceof CliError) throw error
      throw new CliError(`open ${file}: ${reasonOf(error)}`, { exitCode: EXIT_NOT_RUN, cause: error })
    }
  })
  const single = variables.flatMap((item) => {
    if (item === '' || item.startsWith('='))
      throw new CliError(`invalid environment variable: ${item}`, { exitCode: EXIT_NOT_RUN })
    return resolve(item, environment)
  })
  return [...fromFiles, ...single]
}
