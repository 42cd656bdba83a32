import { CliError } from './errors.js'
import { complain } from './terminal.js'

/**
 * Does the same for each name, all at once, and reports in the order given, as `docker rm a b c`
 * does: one that fails is said on stderr and makes the exit code 1, the others go on.
 */
export async function every(
  names: readonly string[],
  act: (name: string) => Promise<void>,
  report: (name: string) => void = () => undefined,
): Promise<void> {
  const outcomes = names.map((name) => act(name).then(() => undefined, asCliError))
  for (const [index, outcome] of outcomes.entries()) {
    const error = await outcome
    if (error === undefined) report(names[index] ?? '')
    else {
      complain(error.message)
      process.exitCode = 1
    }
  }
}

function asCliError(error: unknown): CliError {
  if (error instanceof CliError) return error
  throw error
}
